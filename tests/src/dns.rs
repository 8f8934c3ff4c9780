//! A DNS server for one service, and processes that ask it.

use std::net::{Ipv4Addr, UdpSocket};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use crate::Directory;

const A: u16 = 1;
const SRV: u16 = 33;
/// Where every target of the service is.
const TARGET: Ipv4Addr = Ipv4Addr::LOCALHOST;

/// Answers on port 53 of an address of loopback; needs root. It ends with the test's process.
#[derive(Debug)]
pub struct Dns {
    records: Arc<Mutex<Vec<(u16, String)>>>,
    address: Ipv4Addr,
}

impl Dns {
    /// Answers SRV questions, whatever their name, with [`Self::set`], and A questions with 127.0.0.1.
    pub fn start() -> Self {
        let [.., high, low] = std::process::id().to_be_bytes();
        let address = Ipv4Addr::new(127, 77, high, low.max(1));
        let socket = UdpSocket::bind((address, 53)).expect("port 53 of an address of loopback");
        let dns = Self { records: Arc::default(), address };
        let records = Arc::clone(&dns.records);
        std::thread::spawn(move || {
            let mut query = [0; 1_500];
            while let Ok((length, peer)) = socket.recv_from(&mut query) {
                let records = records.lock().unwrap_or_else(PoisonError::into_inner).clone();
                if let Some(answer) = answer(&query[..length], &records) {
                    // A process that has left asks again no more.
                    let _left = socket.send_to(&answer, peer);
                }
            }
        });
        dns
    }

    /// The service's instances from now on: port and host.
    pub fn set(&self, records: &[(u16, &str)]) {
        let records = records.iter().map(|(port, host)| (*port, (*host).to_owned())).collect();
        *self.records.lock().unwrap_or_else(PoisonError::into_inner) = records;
    }

    /// A `resolv.conf` that names it.
    pub fn resolv_conf(&self, directory: &Directory) -> PathBuf {
        directory.write("resolv.conf", &format!("nameserver {}\noptions attempts:1 timeout:1\n", self.address))
    }
}

/// One question, and no records for what is neither SRV nor A.
fn answer(query: &[u8], records: &[(u16, String)]) -> Option<Vec<u8>> {
    let name_end = 12 + query.get(12..)?.iter().position(|byte| *byte == 0)? + 1;
    let kind = u16::from_be_bytes([*query.get(name_end)?, *query.get(name_end + 1)?]);
    let data: Vec<Vec<u8>> = match kind {
        A => vec![TARGET.octets().to_vec()],
        SRV => records.iter().map(|(port, host)| srv(*port, host)).collect(),
        _ => Vec::new(),
    };
    let mut answer = query[..2].to_vec();
    answer.extend([0x81, 0x80, 0, 1, 0, u8::try_from(data.len()).ok()?, 0, 0, 0, 0]);
    answer.extend(query.get(12..name_end + 4)?);
    for data in data {
        answer.extend([0xc0, 12]);
        answer.extend(kind.to_be_bytes());
        answer.extend([0, 1, 0, 0, 0, 0]);
        answer.extend(u16::try_from(data.len()).ok()?.to_be_bytes());
        answer.extend(data);
    }
    Some(answer)
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
