//! Takes questions to the zone or to the node's resolvers.

use async_trait::async_trait;
use hickory_proto::op::{Edns, Metadata, OpCode, ResponseCode};
use hickory_proto::rr::{Name, Record, RecordType};
use hickory_resolver::config::ResolverOpts;
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::net::{DnsError, NetError};
use hickory_resolver::{Resolver, TokioResolver};
use hickory_server::net::runtime::Time;
use hickory_server::server::{Request, RequestHandler, ResponseHandler, ResponseInfo};
use hickory_server::zone_handler::MessageResponseBuilder;

use super::records::Records;
use super::zone::{Answer, Zone};
use super::{Config, Error, resolvers};

/// Answers kept from the resolvers, and for how long at most, as in k3s' Corefile (`cache 30`).
const CACHE_ENTRIES: u64 = 1024;
const CACHE_SECONDS: u64 = 30;

/// The server's brain.
pub struct Handler {
    zone: Zone,
    /// `None` when the node has no resolvers: then only the cluster's names resolve.
    upstream: Option<TokioResolver>,
}

/// What goes into a response.
struct Reply {
    code: ResponseCode,
    authoritative: bool,
    answers: Vec<Record>,
    authorities: Vec<Record>,
    additionals: Vec<Record>,
}

impl Reply {
    fn error(code: ResponseCode) -> Self {
        Self { code, authoritative: false, answers: vec![], authorities: vec![], additionals: vec![] }
    }
}

impl Handler {
    /// A handler for `config`'s domain.
    ///
    /// # Errors
    /// A domain that is none, a resolv.conf that can't be read.
    pub fn new(config: &Config, records: Records) -> Result<Self, Error> {
        let domain = format!("{}.", config.cluster_domain.trim_end_matches('.'));
        let domain = Name::from_ascii(&domain)
            .map_err(|error| Error::Domain { domain: config.cluster_domain.clone(), detail: error.to_string() })?;
        Ok(Self { zone: Zone::new(domain, records), upstream: upstream(config)? })
    }

    async fn reply(&self, name: &Name, kind: RecordType) -> Reply {
        if self.zone.has(name) {
            return self.cluster(self.zone.lookup(name, kind)).await.unwrap_or_else(Reply::error);
        }
        if kind == RecordType::PTR
            && let Ok(net) = name.parse_arpa_name()
            && net.prefix_len() == net.max_prefix_len()
        {
            let answers = self.zone.reverse(name, net.addr());
            if !answers.is_empty() {
                return Reply { authoritative: true, answers, ..Reply::error(ResponseCode::NoError) };
            }
        }
        if let Some(answer) = self.zone.node(name, kind) {
            return self.cluster(answer).await.unwrap_or_else(Reply::error);
        }
        self.forward(name, kind).await
    }

    async fn cluster(&self, answer: Answer) -> Result<Reply, ResponseCode> {
        let code = if answer.exists { ResponseCode::NoError } else { ResponseCode::NXDomain };
        let mut answers = answer.answers;
        if let Some(target) = answer.follow
            && !self.zone.has(&target)
        {
            // The alias stands whether its target answers now.
            answers.extend(self.forward(&target, RecordType::A).await.answers);
        }
        let authorities = if answers.is_empty() { vec![self.zone.soa()] } else { Vec::new() };
        Ok(Reply { code, authoritative: true, answers, authorities, additionals: answer.additionals })
    }

    async fn forward(&self, name: &Name, kind: RecordType) -> Reply {
        let Some(upstream) = &self.upstream else { return Reply::error(ResponseCode::ServFail) };
        match upstream.lookup(name.clone(), kind).await {
            Ok(lookup) => Reply { answers: lookup.answers().to_vec(), ..Reply::error(ResponseCode::NoError) },
            Err(NetError::Dns(DnsError::NoRecordsFound(none))) => {
                let soa = none.soa.map(|soa| soa.into_record_of_rdata());
                Reply { authorities: soa.into_iter().collect(), ..Reply::error(none.response_code) }
            }
            Err(NetError::Dns(DnsError::ResponseCode(code))) => Reply::error(code),
            Err(error) => {
                tracing::debug!(%name, %error, "the node's resolvers do not answer");
                Reply::error(ResponseCode::ServFail)
            }
        }
    }
}

fn upstream(config: &Config) -> Result<Option<TokioResolver>, Error> {
    let text = resolvers(&config.resolv_conf)?;
    let fail = |detail: String| Error::Resolvers { path: config.resolv_conf.clone(), detail };
    let named = String::from_utf8_lossy(&text).lines().any(|line| line.trim_start().starts_with("nameserver"));
    if !named {
        tracing::warn!(path = %config.resolv_conf.display(), "no resolvers: only the cluster's names will resolve");
        return Ok(None);
    }
    let (resolver, options) =
        hickory_resolver::system_conf::parse_resolv_conf(&text).map_err(|error| fail(error.to_string()))?;
    let mut builder = Resolver::builder_with_config(resolver, TokioRuntimeProvider::default());
    let longest = std::time::Duration::from_secs(CACHE_SECONDS);
    // The names that come here are complete; the search list is the asking pod's affair.
    let mut own = ResolverOpts::default();
    own.ndots = 0;
    own.timeout = options.timeout;
    own.attempts = options.attempts;
    own.cache_size = CACHE_ENTRIES;
    own.positive_max_ttl = Some(longest);
    own.negative_max_ttl = Some(longest);
    own.use_hosts_file = hickory_resolver::config::ResolveHosts::Never;
    *builder.options_mut() = own;
    builder.build().map(Some).map_err(|error| fail(error.to_string()))
}

#[async_trait]
impl RequestHandler for Handler {
    async fn handle_request<R: ResponseHandler, T: Time>(&self, request: &Request, mut responder: R) -> ResponseInfo {
        let reply = match request.request_info() {
            _ if request.metadata.op_code != OpCode::Query => Reply::error(ResponseCode::NotImp),
            Err(_) => Reply::error(ResponseCode::FormErr),
            Ok(info) => {
                let mut name = info.query.original().name().clone();
                name.set_fqdn(true);
                self.reply(&name, info.query.query_type()).await
            }
        };
        let mut metadata = Metadata::response_from_request(&request.metadata);
        metadata.response_code = reply.code;
        metadata.authoritative = reply.authoritative;
        metadata.recursion_available = true;
        let mut edns = Edns::new();
        edns.set_max_payload(1232);
        let mut builder = MessageResponseBuilder::from_message_request(request);
        if request.edns.is_some() {
            builder.edns(&edns);
        }
        let response = builder.build(
            metadata,
            &reply.answers,
            &reply.authorities,
            std::iter::empty::<&Record>(),
            &reply.additionals,
        );
        responder.send_response(response).await.unwrap_or_else(|error| {
            tracing::debug!(%error, "cannot send an answer");
            let counts = hickory_proto::op::HeaderCounts::default();
            hickory_proto::op::Header { metadata, counts }.into()
        })
    }
}
