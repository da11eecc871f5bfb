//! What the hosts of one world ask Redis, as the server tells it.
//!
//! Not for what lies there; `World` makes it, and `costs` counts by it.

use std::thread;

use redis::{Connection, Value};
use tokio::sync::mpsc::{self, UnboundedReceiver};

use super::within;

/// The commands that name a world's prefix, and this connection's own marks between them.
pub struct Commands {
    prefix: String,
    marks: Connection,
    told: UnboundedReceiver<String>,
}

impl Commands {
    /// Has a server tell of each command from now on.
    pub fn follow(url: &str, prefix: String) -> Self {
        let client = redis::Client::open(url).unwrap();
        let mut monitor = client.get_connection().unwrap();
        redis::cmd("MONITOR").exec(&mut monitor).unwrap();
        let (tell, told) = mpsc::unbounded_channel();
        let own = prefix.clone();
        thread::spawn(move || {
            while let Ok(Value::SimpleString(line)) = monitor.recv_response() {
                // What a script does by itself is no command of a client's.
                let counts = line.contains(&own) && !line.contains(" lua] ");
                if counts && tell.send(line).is_err() {
                    break;
                }
            }
        });
        Self {
            marks: client.get_connection().unwrap(),
            prefix,
            told,
        }
    }

    /// The names of those since this was last asked, in order.
    pub async fn since(&mut self) -> Vec<String> {
        let asked = redis::cmd("ECHO").arg(&self.prefix).exec(&mut self.marks);
        asked.unwrap();
        let mut names = Vec::new();
        loop {
            let line = within("the mark among the commands", self.told.recv()).await;
            match line.unwrap().split('"').nth(1).unwrap() {
                "ECHO" => return names,
                name => names.push(name.to_owned()),
            }
        }
    }
}
