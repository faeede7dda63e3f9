//! Certificate authorities and the certificates they sign: ECDSA P-256, authorities for ten years, the others for one.

use std::fs;
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    PKCS_ECDSA_P256_SHA256, SanType,
};
use time::OffsetDateTime;
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

use crate::file::write_atomically;

const DAY: Duration = Duration::from_secs(24 * 3600);
/// k3s renews what expires within 120 days when it starts.
const RENEW_WITHIN: Duration = Duration::from_secs(120 * 24 * 3600);

/// Why a certificate could not be had.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("cannot read {path}: {source}", path = path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error(transparent)]
    Write(#[from] io::Error),
    /// A file that holds no certificate or key, or a pair of which only one half is there.
    #[error("{path} is damaged: {detail}; restore it from a backup", path = path.display())]
    Damaged { path: PathBuf, detail: String },
    #[error("cannot make certificate {name}: {source}")]
    Generate { name: String, source: rcgen::Error },
}

/// A certificate with its key, PEM.
#[derive(Clone)]
pub struct Pair {
    pub certificate: String,
    pub key: String,
}

/// What a certificate is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Usage {
    /// Proves a user: common name and organizations are user name and groups.
    Client { organizations: Vec<String> },
    /// Proves a server under these DNS names and addresses.
    Server { names: Vec<String>, addresses: Vec<IpAddr> },
}

/// A certificate authority, kept as `NAME.crt` and `NAME.key`.
pub struct Authority {
    name: String,
    certificate: String,
    key: String,
}

impl Authority {
    /// Takes the authority from `dir`, or makes it if there is none.
    ///
    /// # Errors
    /// [`Error::Damaged`] rather than a new authority if a half is missing: certificates out in the world depend on it.
    pub fn load_or_create(dir: &Path, name: &str) -> Result<Self, Error> {
        let (certificate, key) = (dir.join(format!("{name}.crt")), dir.join(format!("{name}.key")));
        if let Some(pair) = load(&certificate, &key)? {
            let authority = Self { name: name.to_owned(), certificate: pair.certificate, key: pair.key };
            authority.issuer().map_err(|error| Error::Damaged { path: certificate, detail: error.to_string() })?;
            return Ok(authority);
        }
        let generate = |source| Error::Generate { name: name.to_owned(), source };
        let signing = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(generate)?;
        let now = SystemTime::now();
        let seconds = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, format!("k3s-{name}@{seconds}"));
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages =
            vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::KeyEncipherment, KeyUsagePurpose::KeyCertSign];
        (params.not_before, params.not_after) = validity(now, 3650 * DAY);
        let signed = params.self_signed(&signing).map_err(generate)?;
        let authority = Self { name: name.to_owned(), certificate: signed.pem(), key: signing.serialize_pem() };
        // The key first: a certificate without its key would pass for damage.
        write_atomically(&key, authority.key.as_bytes(), 0o600)?;
        write_atomically(&certificate, authority.certificate.as_bytes(), 0o644)?;
        Ok(authority)
    }

    /// Its certificate, PEM.
    pub fn certificate(&self) -> &str {
        &self.certificate
    }

    fn issuer(&self) -> Result<Issuer<'_, KeyPair>, rcgen::Error> {
        Issuer::from_ca_cert_pem(&self.certificate, KeyPair::from_pem(&self.key)?)
    }

    /// The certificate `path`.crt and .key, made anew unless the one there is for the same, signed by this authority and
    /// good for four more months.
    ///
    /// # Errors
    /// The file system's, or a key that can't be made.
    pub fn issue(&self, path: &Path, common_name: &str, usage: &Usage) -> Result<Pair, Error> {
        let (certificate, key) = (path.with_extension("crt"), path.with_extension("key"));
        if let Ok(Some(pair)) = load(&certificate, &key)
            && self.is_current(&pair, common_name, usage)
        {
            return Ok(pair);
        }
        let pair =
            self.sign(common_name, usage).map_err(|source| Error::Generate { name: common_name.to_owned(), source })?;
        write_atomically(&key, pair.key.as_bytes(), 0o600)?;
        write_atomically(&certificate, pair.certificate.as_bytes(), 0o644)?;
        Ok(pair)
    }

    fn sign(&self, common_name: &str, usage: &Usage) -> Result<Pair, rcgen::Error> {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, common_name);
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::KeyEncipherment];
        match usage {
            Usage::Client { organizations } => {
                // Several organizations are several values; the type keeps one per kind but for custom ones.
                for (index, organization) in organizations.iter().enumerate() {
                    let kind =
                        if index == 0 { DnType::OrganizationName } else { DnType::CustomDnType(vec![2, 5, 4, 10]) };
                    params.distinguished_name.push(kind, organization.as_str());
                }
                params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
            }
            Usage::Server { names, addresses } => {
                params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
                for name in names {
                    params.subject_alt_names.push(SanType::DnsName(name.as_str().try_into()?));
                }
                params.subject_alt_names.extend(addresses.iter().copied().map(SanType::IpAddress));
            }
        }
        (params.not_before, params.not_after) = validity(SystemTime::now(), 365 * DAY);
        let signed = params.signed_by(&key, &self.issuer()?)?;
        // Clients get the authority's certificate along, as from k3s.
        Ok(Pair { certificate: signed.pem() + &self.certificate, key: key.serialize_pem() })
    }

    fn is_current(&self, pair: &Pair, common_name: &str, usage: &Usage) -> bool {
        let (Some(own), Some(authority)) = (der(&pair.certificate), der(&self.certificate)) else { return false };
        let (Ok((_, own)), Ok((_, authority))) =
            (X509Certificate::from_der(&own), X509Certificate::from_der(&authority))
        else {
            return false;
        };
        let remaining = own.validity().time_to_expiration().and_then(|left| left.try_into().ok());
        let same_name =
            own.subject().iter_common_name().any(|name| name.as_str().is_ok_and(|name| name == common_name));
        own.verify_signature(Some(authority.public_key())).is_ok()
            && own.issuer() == authority.subject()
            && remaining.is_some_and(|left: Duration| left > RENEW_WITHIN)
            && same_name
            && match usage {
                Usage::Client { organizations } => {
                    own.subject().iter_organization().filter_map(|name| name.as_str().ok()).eq(organizations)
                }
                Usage::Server { names, addresses } => covers(&own, names, addresses),
            }
    }
}

impl std::fmt::Debug for Authority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Authority").field("name", &self.name).finish_non_exhaustive()
    }
}

/// From an hour ago, for clocks that are behind, to `lifetime` from now.
fn validity(now: SystemTime, lifetime: Duration) -> (OffsetDateTime, OffsetDateTime) {
    ((now - Duration::from_secs(3600)).into(), (now + lifetime).into())
}

fn covers(certificate: &X509Certificate<'_>, names: &[String], addresses: &[IpAddr]) -> bool {
    let Ok(Some(san)) = certificate.subject_alternative_name() else { return false };
    let has = |name: &GeneralName<'_>| san.value.general_names.iter().any(|general| general == name);
    names.iter().all(|name| has(&GeneralName::DNSName(name)))
        && addresses.iter().all(|address| match address {
            IpAddr::V4(address) => has(&GeneralName::IPAddress(&address.octets())),
            IpAddr::V6(address) => has(&GeneralName::IPAddress(&address.octets())),
        })
}

fn der(pem: &str) -> Option<Vec<u8>> {
    x509_parser::pem::parse_x509_pem(pem.as_bytes()).ok().map(|(_, pem)| pem.contents)
}

/// Both files, or `None` if there is neither certificate nor key (or a key whose certificate was not written yet).
fn load(certificate: &Path, key: &Path) -> Result<Option<Pair>, Error> {
    let read = |path: &Path| match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(Error::Read { path: path.to_owned(), source }),
    };
    match (read(certificate)?, read(key)?) {
        (Some(certificate), Some(key)) => Ok(Some(Pair { certificate, key })),
        (Some(_), None) => {
            Err(Error::Damaged { path: certificate.to_owned(), detail: "its key is missing".to_owned() })
        }
        (None, _) => Ok(None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(groups: &[&str]) -> Usage {
        Usage::Client { organizations: groups.iter().map(|group| (*group).to_owned()).collect() }
    }

    #[test]
    fn what_is_current_is_kept_and_what_is_not_is_made_anew() {
        let dir = tempfile::tempdir().unwrap();
        let authority = Authority::load_or_create(dir.path(), "server-ca").unwrap();
        let again = Authority::load_or_create(dir.path(), "server-ca").unwrap();
        assert_eq!(authority.certificate(), again.certificate());
        let path = dir.path().join("serving");
        let server = |address: &str| Usage::Server {
            names: vec!["localhost".into()],
            addresses: vec![address.parse().unwrap()],
        };
        let first = authority.issue(&path, "k3s", &server("127.0.0.1")).unwrap();
        assert_eq!(again.issue(&path, "k3s", &server("127.0.0.1")).unwrap().certificate, first.certificate);
        let other = again.issue(&path, "k3s", &server("10.0.0.1")).unwrap();
        assert_ne!(other.certificate, first.certificate);
        let stranger = Authority::load_or_create(dir.path(), "client-ca").unwrap();
        assert_ne!(stranger.issue(&path, "k3s", &server("10.0.0.1")).unwrap().certificate, other.certificate);
    }

    #[test]
    fn user_and_all_groups_are_in_a_client_certificate() {
        let dir = tempfile::tempdir().unwrap();
        let authority = Authority::load_or_create(dir.path(), "client-ca").unwrap();
        let path = dir.path().join("client");
        let pair = authority.issue(&path, "system:kube-apiserver", &client(&["system:masters", "second"])).unwrap();
        let der = der(&pair.certificate).unwrap();
        let (_, parsed) = X509Certificate::from_der(&der).unwrap();
        let groups: Vec<_> = parsed.subject().iter_organization().map(|name| name.as_str().unwrap()).collect();
        assert_eq!(groups, ["system:masters", "second"]);
        assert_eq!(
            authority
                .issue(&path, "system:kube-apiserver", &client(&["system:masters", "second"]))
                .unwrap()
                .certificate,
            pair.certificate
        );
    }

    #[test]
    fn an_authority_without_its_key_is_damage_not_a_reason_for_a_new_one() {
        let dir = tempfile::tempdir().unwrap();
        Authority::load_or_create(dir.path(), "server-ca").unwrap();
        fs::remove_file(dir.path().join("server-ca.key")).unwrap();
        let error = Authority::load_or_create(dir.path(), "server-ca").unwrap_err().to_string();
        assert!(error.contains("server-ca.crt is damaged: its key is missing"), "{error}");
        fs::write(dir.path().join("server-ca.key"), "rubbish").unwrap();
        assert!(matches!(Authority::load_or_create(dir.path(), "server-ca"), Err(Error::Damaged { .. })));
    }

    #[test]
    fn keys_are_private() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        Authority::load_or_create(dir.path(), "server-ca").unwrap();
        let mode = fs::metadata(dir.path().join("server-ca.key")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }
}
