//! The nfnetlink socket: sends transactions and tells which object the kernel refused.

use std::io;

use netlink_sys::protocols::NETLINK_NETFILTER;
use netlink_sys::{Socket as Netlink, SocketAddr};
use nix::sys::socket::{getsockopt, setsockopt, sockopt};

use super::attribute::attributes;
use super::transaction::{Change, Transaction};
use crate::Error;

const NFPROTO_IPV4: u8 = 2;
const NFNL_SUBSYS_NFTABLES: u8 = 10;
const NFNL_MSG_BATCH_BEGIN: u16 = 0x10;
const NFNL_MSG_BATCH_END: u16 = 0x11;
const NLM_F_REQUEST: u16 = 1;
const NLM_F_ACK: u16 = 4;
/// An error's message is followed by attributes.
const NLM_F_ACK_TLVS: u16 = 0x200;
const NLMSG_ERROR: u16 = 2;
const NLMSGERR_ATTR_MSG: u16 = 1;

/// What fits into one transaction if the kernel says nothing else (its default for a socket's buffer).
const DEFAULT_BUFFER: usize = 212_992;
/// Wished for: some twenty thousand services at once.
const WISHED_BUFFER: usize = 16 << 20;
/// The kernel's own use of the send buffer.
const OVERHEAD: usize = 4096;

/// An nfnetlink socket of the network namespace it was opened in.
pub(crate) struct Socket {
    netlink: Netlink,
    sequence: u32,
    /// The most bytes the kernel takes at once.
    limit: usize,
}

/// A netlink message's header and body.
pub(crate) struct Header<'a> {
    pub(crate) kind: u16,
    pub(crate) flags: u16,
    pub(crate) sequence: u32,
    pub(crate) body: &'a [u8],
}

impl Socket {
    pub(crate) fn open() -> Result<Self, Error> {
        let failed = |source| Error::Netfilter { doing: "open an nfnetlink socket".into(), source };
        let mut netlink = Netlink::new(NETLINK_NETFILTER).map_err(failed)?;
        netlink.bind_auto().map_err(failed)?;
        netlink.connect(&SocketAddr::new(0, 0)).map_err(failed)?;
        netlink.set_cap_ack(true).map_err(failed)?;
        netlink.set_ext_ack(true).map_err(failed)?;
        // A transaction is one datagram and has to fit into the send buffer. Only root of the host may go beyond
        // net.core.wmem_max; in a user namespace a big transaction is cut up.
        if setsockopt(&netlink, sockopt::SndBufForce, &WISHED_BUFFER).is_err() {
            setsockopt(&netlink, sockopt::SndBuf, &WISHED_BUFFER).map_err(|error| failed(error.into()))?;
        }
        let buffer = getsockopt(&netlink, sockopt::SndBuf).unwrap_or(DEFAULT_BUFFER);
        Ok(Self { netlink, sequence: 0, limit: buffer.saturating_sub(OVERHEAD) })
    }

    /// Commits a transaction. One that does not fit into the socket's buffer is committed in parts, in order.
    pub(crate) fn commit(&mut self, transaction: &Transaction) -> Result<(), Error> {
        let mut rest = &transaction.changes[..];
        while !rest.is_empty() {
            let (part, following) = rest.split_at(fitting(rest, self.limit));
            self.commit_part(part)?;
            rest = following;
        }
        Ok(())
    }

    fn commit_part(&mut self, changes: &[Change]) -> Result<(), Error> {
        let mut bytes = Vec::with_capacity(changes.iter().map(size).sum::<usize>() + 64);
        let begin = self.next();
        message(&mut bytes, NFNL_MSG_BATCH_BEGIN, NLM_F_REQUEST, begin, 0, NFNL_SUBSYS_NFTABLES, &[]);
        for (index, change) in changes.iter().enumerate() {
            // The last one's acknowledgement says that all were committed.
            let ack = if index + 1 == changes.len() { NLM_F_ACK } else { 0 };
            let kind = u16::from_be_bytes([NFNL_SUBSYS_NFTABLES, change.kind]);
            let flags = NLM_F_REQUEST | change.flags | ack;
            let sequence = self.next();
            message(&mut bytes, kind, flags, sequence, NFPROTO_IPV4, 0, change.attributes.as_slice());
        }
        let end = self.next();
        message(&mut bytes, NFNL_MSG_BATCH_END, NLM_F_REQUEST, end, 0, NFNL_SUBSYS_NFTABLES, &[]);
        let doing = || "commit an nftables transaction".to_owned();
        self.send(&bytes).map_err(|source| Error::Netfilter { doing: doing(), source })?;

        // The kernel has done all its work when the call returns; its answers are in the buffer.
        let last = end.wrapping_sub(1);
        let mut committed = false;
        let mut refused = None;
        while let Some(datagram) = self.receive(false).map_err(|source| Error::Netfilter { doing: doing(), source })? {
            for answer in messages(&datagram).filter(|answer| answer.kind == NLMSG_ERROR) {
                let Some((code, detail)) = error(&answer) else { continue };
                if code == 0 {
                    committed |= answer.sequence == last;
                } else if refused.is_none() && answer.sequence.wrapping_sub(begin) <= changes.len() as u32 {
                    let index = answer.sequence.wrapping_sub(begin) as usize;
                    let object =
                        index.checked_sub(1).and_then(|i| changes.get(i)).map_or("the transaction", |c| &c.object);
                    refused = Some(Error::Refused {
                        object: object.to_owned(),
                        source: io::Error::from_raw_os_error(code),
                        detail: detail.map(|text| format!(" ({text})")).unwrap_or_default(),
                    });
                }
            }
        }
        match refused {
            Some(refused) => Err(refused),
            None if committed => Ok(()),
            None => {
                let source = io::Error::new(io::ErrorKind::InvalidData, "the kernel acknowledged nothing");
                Err(Error::Netfilter { doing: doing(), source })
            }
        }
    }

    /// The next message's sequence number.
    pub(crate) fn next(&mut self) -> u32 {
        self.sequence = self.sequence.wrapping_add(1);
        self.sequence
    }

    pub(crate) fn send(&self, bytes: &[u8]) -> io::Result<()> {
        loop {
            match self.netlink.send(bytes, 0) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                done => return done.map(drop),
            }
        }
    }

    /// The next datagram; `None` if there is none and `wait` is not set.
    pub(crate) fn receive(&self, wait: bool) -> io::Result<Option<Vec<u8>>> {
        let mut datagram = Vec::with_capacity(64 * 1024);
        let flags = if wait { 0 } else { nix::libc::MSG_DONTWAIT };
        loop {
            match self.netlink.recv(&mut datagram, flags) {
                Ok(_) => return Ok(Some(datagram)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }
}

fn size(change: &Change) -> usize {
    20 + align(change.attributes.len())
}

/// How many changes from the first on fit into a transaction; at least one, and no map without its rule.
fn fitting(changes: &[Change], limit: usize) -> usize {
    let mut bytes = 40;
    let mut whole = 0;
    for (index, change) in changes.iter().enumerate() {
        bytes += size(change);
        if bytes > limit && whole > 0 {
            return whole;
        }
        if !change.tied {
            whole = index + 1;
        }
    }
    changes.len()
}

/// The next multiple of netlink's alignment.
pub(crate) fn align(length: usize) -> usize {
    length.next_multiple_of(4)
}

/// Appends an nfnetlink message.
pub(crate) fn message(
    to: &mut Vec<u8>,
    kind: u16,
    flags: u16,
    sequence: u32,
    family: u8,
    resource: u8,
    attributes: &[u8],
) {
    let length = (20 + attributes.len()) as u32;
    to.extend_from_slice(&length.to_ne_bytes());
    to.extend_from_slice(&kind.to_ne_bytes());
    to.extend_from_slice(&flags.to_ne_bytes());
    to.extend_from_slice(&sequence.to_ne_bytes());
    to.extend_from_slice(&[0; 4]);
    // struct nfgenmsg: the resource is big-endian.
    to.extend_from_slice(&[family, 0, 0, resource]);
    to.extend_from_slice(attributes);
    to.resize(align(to.len()), 0);
}

/// The messages of a datagram. Ends at what is no whole message.
pub(crate) fn messages(mut bytes: &[u8]) -> impl Iterator<Item = Header<'_>> {
    std::iter::from_fn(move || {
        let (header, _) = bytes.split_first_chunk::<16>()?;
        let number = |at: usize| u32::from_ne_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]);
        let length = number(0) as usize;
        let body = bytes.get(16..length)?;
        bytes = bytes.get(align(length)..).unwrap_or_default();
        Some(Header {
            kind: u16::from_ne_bytes([header[4], header[5]]),
            flags: u16::from_ne_bytes([header[6], header[7]]),
            sequence: number(8),
            body,
        })
    })
}

/// The positive error number (0 for an acknowledgement) and the kernel's explanation, if it gave one.
pub(crate) fn error(answer: &Header<'_>) -> Option<(i32, Option<String>)> {
    let (code, rest) = answer.body.split_first_chunk::<4>()?;
    let code = i32::from_ne_bytes(*code).checked_neg()?;
    let explained = answer.flags & NLM_F_ACK_TLVS != 0;
    let detail = explained.then(|| rest.get(16..)).flatten().and_then(|rest| {
        let (_, text) = attributes(rest).find(|(kind, _)| *kind == NLMSGERR_ATTR_MSG)?;
        Some(String::from_utf8_lossy(text).trim_end_matches('\0').to_owned())
    });
    Some((code, detail))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::process::Command;

    use nix::sched::{CloneFlags, unshare};

    use super::super::{Chain, Data, Expression, Map, Ruleset, Type, Verdict};
    use super::*;

    /// Runs a test with a socket in a network namespace of its own; says why if it can't.
    fn with_socket(name: &str, test: impl FnOnce(Socket) + Send + 'static) {
        if !nix::unistd::geteuid().is_root() {
            eprintln!("SKIPPED {name}: needs root to make a network namespace");
            return;
        }
        let run = move || {
            unshare(CloneFlags::CLONE_NEWNET).expect("a network namespace");
            test(Socket::open().expect("opens"));
        };
        if let Err(panic) = std::thread::spawn(run).join() {
            std::panic::resume_unwind(panic);
        }
    }

    fn listed() -> String {
        let output = Command::new("nft").args(["list", "ruleset"]).output().expect("nft runs");
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).expect("text")
    }

    fn goto(chain: &str) -> Verdict {
        Verdict::Goto(chain.to_owned())
    }

    /// A map that leads from port 80 of protocols to chains, each of which drops.
    fn ruleset(entries: &[(u8, &str)]) -> Ruleset {
        let mut map = Map::verdicts(&[Type::Protocol, Type::Service]);
        let mut chains = BTreeMap::new();
        for (protocol, chain) in entries {
            let key = super::super::expression::key::protocol_port(*protocol, 80);
            map.elements.insert(key, Some(Data::Verdict(goto(chain))));
            let rules = vec![vec![Expression::Verdict(Verdict::Drop)]];
            chains.insert((*chain).to_owned(), Chain { base: None, rules });
        }
        Ruleset { chains, maps: BTreeMap::from([("protocols", map)]) }
    }

    #[test]
    fn the_refused_object_is_named_and_nothing_is_changed() {
        with_socket("the_refused_object_is_named_and_nothing_is_changed", |mut socket| {
            let good = ruleset(&[(6, "one")]);
            socket.commit(&good.replacement("t")).expect("commits");
            let before = listed();
            let mut bad = ruleset(&[(6, "one"), (17, "two")]);
            let rules = vec![vec![Expression::Verdict(Verdict::Drop)], vec![Expression::Verdict(goto("nowhere"))]];
            bad.chains.insert("three".into(), Chain { base: None, rules });
            let refused = socket.commit(&bad.replacement("t")).expect_err("is refused").to_string();
            assert!(
                refused.starts_with("nftables refused rule 1 of chain three: No such file or directory"),
                "{refused}"
            );
            assert_eq!(listed(), before);
            // The socket is as good as before.
            socket.commit(&good.replacement("t")).expect("commits");
        });
    }

    #[test]
    fn an_update_leads_to_what_a_replacement_makes() {
        with_socket("an_update_leads_to_what_a_replacement_makes", |mut socket| {
            let old = ruleset(&[(1, "gone"), (6, "one"), (17, "two")]);
            let new = ruleset(&[(6, "two"), (17, "two"), (132, "three")]);
            socket.commit(&old.replacement("t")).expect("commits");
            socket.commit(&new.update(&old, "t")).expect("commits");
            let updated = listed();
            assert!(updated.contains("sctp . 80 : goto three") && updated.contains("tcp . 80 : goto two"), "{updated}");
            assert!(!updated.contains("gone") && !updated.contains("one"), "{updated}");
            socket.commit(&Transaction::removal("t")).expect("commits");
            socket.commit(&Transaction::removal("t")).expect("removing what is not there is no error");
            assert_eq!(listed(), "");
            socket.commit(&new.replacement("t")).expect("commits");
            // The kernel lists chains in the order they were made in.
            let sorted = |text: &str| text.lines().map(str::to_owned).collect::<std::collections::BTreeSet<_>>();
            assert_eq!(sorted(&listed()), sorted(&updated));
            assert!(new.update(&new, "t").is_empty());
        });
    }

    #[test]
    fn a_transaction_that_does_not_fit_is_cut_between_rules() {
        with_socket("a_transaction_that_does_not_fit_is_cut_between_rules", |mut socket| {
            let mut wanted = ruleset(&[(6, "one")]);
            let rule = || {
                let values = vec![vec![10, 0, 0, 1], vec![10, 0, 0, 2]];
                let key = super::super::Register::R0;
                vec![
                    Expression::Random { modulus: 2, to: key },
                    Expression::LoadOfNumber { values, value_type: &[Type::Ipv4Address], key, to: key },
                    Expression::Compare { register: key, equal: true, value: vec![10, 0, 0, 1] },
                ]
            };
            wanted.chains.insert("many".into(), Chain { base: None, rules: (0..20).map(|_| rule()).collect() });
            let transaction = wanted.replacement("t");
            let whole: usize = transaction.changes.iter().map(size).sum();
            socket.limit = whole / 5;
            let first = fitting(&transaction.changes, socket.limit);
            assert!(first < transaction.changes.len() && !transaction.changes[first - 1].tied);
            socket.commit(&transaction).expect("commits");
            assert_eq!(listed().matches("numgen random mod 2 map { 0 : 10.0.0.1, 1 : 10.0.0.2 }").count(), 20);
        });
    }
}
