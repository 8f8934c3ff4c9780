//! A network namespace with one cable to this machine, that can be cut without either end being told.

use std::net::Ipv4Addr;
use std::process::Command;
use std::time::Duration;

use crate::{Child, Directory, eventually};

/// It ends with the process that holds it, and its cable with it.
#[derive(Debug)]
pub struct Namespace {
    holder: Child,
    interface: String,
    outside: Ipv4Addr,
    inside: Ipv4Addr,
    _directory: Directory,
}

/// Which packets vanish.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// From the namespace to this machine.
    Out,
    /// From this machine to the namespace.
    In,
    Both,
}

/// An address that no interface has: what is sent to it vanishes.
const NOBODY: &str = "02:00:00:00:00:01";

impl Namespace {
    /// Needs root.
    pub async fn new() -> Self {
        let directory = Directory::new("namespace");
        let mut hold = Command::new("unshare");
        hold.args(["--net", "--", "sleep", "infinity"]);
        let holder = Child::spawn("namespace", &hold, &directory.path().join("namespace.log"));
        let pid = holder.pid();
        let own = std::fs::read_link("/proc/self/ns/net").expect("own namespace");
        eventually("a namespace", Duration::from_secs(10), || async {
            match std::fs::read_link(format!("/proc/{pid}/ns/net")) {
                Ok(theirs) if theirs != own => Ok(()),
                other => Err(format!("{other:?}: {}", holder.log_tail())),
            }
        })
        .await;
        let [_, _, high, low] = pid.to_be_bytes();
        let subnet = |last: u8| Ipv4Addr::new(10, 128 | high, low, last);
        let (interface, outside, inside) = (format!("jmo{pid}"), subnet(1), subnet(2));
        let namespace = Self { holder, interface, outside, inside, _directory: directory };
        let (outer, inner) = (&namespace.interface, format!("jmi{pid}"));
        ip(&["link", "add", outer, "type", "veth", "peer", "name", &inner, "netns", &pid.to_string()]);
        ip(&["address", "add", &format!("{outside}/30"), "dev", outer]);
        ip(&["link", "set", outer, "up"]);
        namespace.ip_inside(&["address", "add", &format!("{inside}/30"), "dev", &inner]);
        namespace.ip_inside(&["link", "set", &inner, "up"]);
        namespace.ip_inside(&["link", "set", "lo", "up"]);
        namespace
    }

    /// Whether this process may make one.
    pub fn is_allowed() -> bool {
        rustix::process::geteuid().is_root()
    }

    /// This machine's address on the cable.
    pub fn outside(&self) -> Ipv4Addr {
        self.outside
    }

    /// The namespace's address on the cable.
    pub fn inside(&self) -> Ipv4Addr {
        self.inside
    }

    /// For [`crate::Place::namespace`].
    pub fn holder(&self) -> u32 {
        self.holder.pid()
    }

    /// From now on packets vanish.
    pub fn cut(&self, direction: Direction) {
        let pid = self.holder.pid();
        match direction {
            Direction::Both => ip(&["link", "set", &self.interface, "down"]),
            Direction::In => ip(&neighbour("replace", &self.inside.to_string(), &self.interface)),
            Direction::Out => {
                self.ip_inside(&neighbour("replace", &self.outside.to_string(), &format!("jmi{pid}")));
            }
        }
    }

    /// From now on they arrive again.
    pub fn heal(&self, direction: Direction) {
        let pid = self.holder.pid();
        match direction {
            Direction::Both => ip(&["link", "set", &self.interface, "up"]),
            Direction::In => ip(&neighbour("del", &self.inside.to_string(), &self.interface)),
            Direction::Out => self.ip_inside(&neighbour("del", &self.outside.to_string(), &format!("jmi{pid}"))),
        }
    }

    fn ip_inside(&self, arguments: &[&str]) {
        let mut command = Command::new("nsenter");
        command.args(["--net", "--target", &self.holder.pid().to_string(), "--", "ip"]).args(arguments);
        run(command);
    }
}

fn neighbour<'a>(action: &'a str, address: &'a str, interface: &'a str) -> Vec<&'a str> {
    let mut arguments = vec!["neighbour", action, address];
    if action == "replace" {
        arguments.extend(["lladdr", NOBODY, "nud", "permanent"]);
    }
    arguments.extend(["dev", interface]);
    arguments
}

fn ip(arguments: &[&str]) {
    let mut command = Command::new("ip");
    command.args(arguments);
    run(command);
}

fn run(mut command: Command) {
    let output = command.output().expect("run ip");
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_cut_cable_loses_packets_and_a_healed_one_does_not() {
        if !Namespace::is_allowed() {
            return;
        }
        let namespace = Namespace::new().await;
        let inside = namespace.inside();
        // An answer, even that nobody listens, needs both directions.
        let answers = async || {
            let connect = tokio::net::TcpStream::connect((inside, 9));
            tokio::time::timeout(Duration::from_millis(300), connect)
                .await
                .is_ok_and(|result| result.is_err_and(|error| error.kind() == std::io::ErrorKind::ConnectionRefused))
        };
        for direction in [Direction::In, Direction::Out, Direction::Both] {
            assert!(answers().await, "before the cut {direction:?}");
            namespace.cut(direction);
            assert!(!answers().await, "while cut {direction:?}");
            namespace.heal(direction);
            eventually("the cable carries again", Duration::from_secs(10), || async {
                if answers().await { Ok(()) } else { Err("no answer".to_owned()) }
            })
            .await;
        }
    }
}
