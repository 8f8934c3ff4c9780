//! A DNS server for a few services, and processes that ask it.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, UdpSocket};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::Directory;

/// From the answer that names an instance to the link: it is asked for every 1 to 3 s, and a machine that runs other tests is slow.
pub const FOLLOWED: Duration = Duration::from_secs(15);

const A: u16 = 1;
const SRV: u16 = 33;
const SERVFAIL: u8 = 2;
/// Where a host is of which nothing else is said.
const TARGET: Ipv4Addr = Ipv4Addr::LOCALHOST;

/// What is wrong with all its answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DnsTrouble {
    /// They are SERVFAIL.
    Fails,
    /// There are none.
    Silent,
    /// They have no records.
    Empty,
}

#[derive(Clone, Debug, Default)]
struct Zone {
    /// Port and host of each instance, by the service's name.
    services: BTreeMap<String, Vec<(u16, String)>>,
    hosts: BTreeMap<String, Vec<Ipv4Addr>>,
    trouble: Option<DnsTrouble>,
    ttl_seconds: u32,
}

/// Answers on port 53 of an address of loopback; needs root. It ends with the test's process.
#[derive(Debug)]
pub struct Dns {
    zone: Arc<Mutex<Zone>>,
    address: Ipv4Addr,
}

impl Dns {
    /// Answers SRV questions with [`Self::set`], and A questions with [`Self::set_host`], else with 127.0.0.1. Nobody is to keep
    /// its answers.
    pub fn start() -> Self {
        let [.., high, low] = std::process::id().to_be_bytes();
        // Tests of one process have an address each.
        let free = (77..=99).find_map(|third| {
            let address = Ipv4Addr::new(127, third, high, low.max(1));
            UdpSocket::bind((address, 53)).ok().map(|socket| (address, socket))
        });
        let (address, socket) = free.expect("port 53 of an address of loopback");
        let dns = Self { zone: Arc::default(), address };
        let zone = Arc::clone(&dns.zone);
        std::thread::spawn(move || {
            let mut query = [0; 1_500];
            while let Ok((length, peer)) = socket.recv_from(&mut query) {
                let zone = zone.lock().unwrap_or_else(PoisonError::into_inner).clone();
                if let Some(answer) = answer(&query[..length], &zone) {
                    // A process that has left asks again no more.
                    let _left = socket.send_to(&answer, peer);
                }
            }
        });
        dns
    }

    /// A service's instances from now on: port and host.
    pub fn set(&self, service: &str, records: &[(u16, &str)]) {
        let records = records.iter().map(|(port, host)| (*port, (*host).to_owned())).collect();
        self.zone().services.insert(service.to_owned(), records);
    }

    /// A host's addresses from now on.
    pub fn set_host(&self, host: &str, addresses: &[Ipv4Addr]) {
        self.zone().hosts.insert(host.to_owned(), addresses.to_vec());
    }

    /// For so long others may keep its answers.
    #[must_use]
    pub fn with_ttl(self, seconds: u32) -> Self {
        self.zone().ttl_seconds = seconds;
        self
    }

    /// What is wrong from now on.
    pub fn trouble(&self, trouble: Option<DnsTrouble>) {
        self.zone().trouble = trouble;
    }

    fn zone(&self) -> MutexGuard<'_, Zone> {
        self.zone.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A `resolv.conf` that names it.
    pub fn resolv_conf(&self, directory: &Directory) -> PathBuf {
        directory.write("resolv.conf", &format!("nameserver {}\noptions attempts:1 timeout:1\n", self.address))
    }
}

/// One question, and no records for what is neither SRV nor A.
fn answer(query: &[u8], zone: &Zone) -> Option<Vec<u8>> {
    let name_end = 12 + query.get(12..)?.iter().position(|byte| *byte == 0)? + 1;
    let name = name(query.get(12..name_end)?)?;
    let kind = u16::from_be_bytes([*query.get(name_end)?, *query.get(name_end + 1)?]);
    let data: Vec<Vec<u8>> = match (zone.trouble, kind) {
        (Some(DnsTrouble::Silent), _) => return None,
        (None, A) => match zone.hosts.get(&name) {
            Some(addresses) => addresses.iter().map(|address| address.octets().to_vec()).collect(),
            None => vec![TARGET.octets().to_vec()],
        },
        (None, SRV) => zone.services.get(&name).into_iter().flatten().map(|(port, host)| srv(*port, host)).collect(),
        _ => Vec::new(),
    };
    let code = if zone.trouble == Some(DnsTrouble::Fails) { SERVFAIL } else { 0 };
    let mut answer = query[..2].to_vec();
    answer.extend([0x81, 0x80 | code, 0, 1, 0, u8::try_from(data.len()).ok()?, 0, 0, 0, 0]);
    answer.extend(query.get(12..name_end + 4)?);
    for data in data {
        answer.extend([0xc0, 12]);
        answer.extend(kind.to_be_bytes());
        answer.extend([0, 1]);
        answer.extend(zone.ttl_seconds.to_be_bytes());
        answer.extend(u16::try_from(data.len()).ok()?.to_be_bytes());
        answer.extend(data);
    }
    Some(answer)
}

/// Labels as a name with dots.
fn name(labels: &[u8]) -> Option<String> {
    let (mut name, mut rest) = (String::new(), labels);
    while let [length, tail @ ..] = rest
        && *length > 0
    {
        let (label, after) = tail.split_at_checked(usize::from(*length))?;
        if !name.is_empty() {
            name.push('.');
        }
        name.push_str(std::str::from_utf8(label).ok()?);
        rest = after;
    }
    Some(name.to_lowercase())
}

/// Priority and weight 0.
fn srv(port: u16, host: &str) -> Vec<u8> {
    let mut data = vec![0; 4];
    data.extend(port.to_be_bytes());
    for label in host.split('.') {
        data.push(u8::try_from(label.len()).unwrap_or_default());
        data.extend(label.as_bytes());
    }
    data.push(0);
    data
}
