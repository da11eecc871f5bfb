//! The binary as a process, and what it writes.

use std::{
    io::{BufRead as _, BufReader, Read},
    process::{Child, Command, Stdio},
    sync::Mutex,
    thread,
    time::Duration,
};

use tokio::sync::watch;

/// Lines of the host's log that a failed test shows.
const LOG_SHOWN: usize = 60;
/// Characters of such a line.
const LINE_SHOWN: usize = 400;

/// A running binary; killed when dropped.
pub struct Process {
    child: Mutex<Child>,
    pub stdout: Lines,
    pub stderr: Lines,
}

impl Process {
    /// Starts the binary with nothing in its environment but this.
    pub fn launch(arguments: &[&str], environment: &[(String, String)]) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_timesale"))
            .args(arguments)
            .env_clear()
            .envs(environment.iter().cloned())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        Self {
            stdout: Lines::follow(child.stdout.take().unwrap()),
            stderr: Lines::follow(child.stderr.take().unwrap()),
            child: Mutex::new(child),
        }
    }

    /// Sends SIGKILL.
    pub fn kill(&self) {
        self.child.lock().unwrap().kill().unwrap();
    }

    /// Sends SIGTERM; the child is not reaped before `wait`, so its id is still its own.
    pub fn terminate(&self) {
        let id = self.child.lock().unwrap().id();
        let sent = Command::new("sh")
            .arg("-c")
            .arg(format!("kill -TERM {id}"))
            .status();
        assert!(sent.unwrap().success(), "no process {id}");
    }

    /// Waits for its end, and says whether it called that a success.
    pub async fn wait(&self) -> bool {
        loop {
            let ended = self.child.lock().unwrap().try_wait().unwrap();
            match ended {
                Some(status) => return status.success(),
                None => tokio::time::sleep(Duration::from_millis(5)).await,
            }
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let child = self.child.get_mut().unwrap();
        // One that has ended already cannot be killed, and need not be.
        child.kill().ok();
        child.wait().ok();
        if thread::panicking() {
            let log = self.stderr.now();
            eprintln!("the end of the host's log:");
            for line in &log[log.len().saturating_sub(LOG_SHOWN)..] {
                eprintln!("{}", line.chars().take(LINE_SHOWN).collect::<String>());
            }
        }
    }
}

/// The lines of a stream, as they come.
#[derive(Clone)]
pub struct Lines(watch::Receiver<Vec<String>>);

impl Lines {
    fn follow(stream: impl Read + Send + 'static) -> Self {
        let (written, lines) = watch::channel(Vec::new());
        thread::spawn(move || {
            for line in BufReader::new(stream).split(b'\n').map_while(Result::ok) {
                let line = String::from_utf8_lossy(&line).into_owned();
                written.send_modify(|lines: &mut Vec<String>| lines.push(line));
            }
        });
        Self(lines)
    }

    /// The lines so far.
    pub fn now(&self) -> Vec<String> {
        self.0.borrow().clone()
    }

    /// Waits for a line that holds this text; none where the stream ends without one.
    pub async fn wait_for(&self, text: &str) -> Option<String> {
        let found = |lines: &[String]| lines.iter().find(|line| line.contains(text)).cloned();
        let mut lines = self.0.clone();
        // At the end of the stream the lines that came last are there to be looked at.
        let _ = lines.wait_for(|lines| found(lines).is_some()).await;
        found(&self.now())
    }

    /// Waits for the end of the stream.
    pub async fn whole(mut self) -> Vec<String> {
        while self.0.changed().await.is_ok() {}
        self.now()
    }
}
