//! A shell that was started before the faults, and does during them what takes a process of its own.
//!
//! A test that forks while nobody leads waits: its child closes the files that the workers have open on the mounts, and closing
//! records what they wrote.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

/// Ends each answer.
const MARK: &str = "--- ended with";

/// The shell.
pub struct Shell {
    process: Child,
    asks: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Shell {
    /// Starts it.
    pub fn start() -> Self {
        let script =
            format!("while IFS= read -r line; do (eval \"$line\") </dev/null; echo \"{MARK} $?\"; done");
        let mut command = Command::new("sh");
        command.args(["-c", &script]).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut process = command.spawn().unwrap();
        let (asks, answers) = (process.stdin.take().unwrap(), process.stdout.take().unwrap());
        Self { process, asks, answers: BufReader::new(answers) }
    }

    /// Runs one line; returns what it printed when it succeeded.
    pub fn attempt(&mut self, line: &str) -> Option<String> {
        assert!(!line.contains('\n'), "one line: {line}");
        self.asks.write_all(format!("{line}\n").as_bytes()).unwrap();
        let mut printed = String::new();
        loop {
            let mut answer = String::new();
            self.answers.read_line(&mut answer).unwrap();
            assert!(!answer.is_empty(), "the shell has ended");
            if let Some(code) = answer.strip_prefix(MARK) {
                return (code.trim() == "0").then_some(printed);
            }
            printed.push_str(&answer);
        }
    }

    /// As `attempt`; must succeed.
    pub fn run(&mut self, line: &str) -> String {
        self.attempt(line).unwrap_or_else(|| panic!("failed: {line}"))
    }
}

impl Drop for Shell {
    fn drop(&mut self) {
        // It may have ended already.
        drop(self.process.kill());
        drop(self.process.wait());
    }
}
