//! Whether a leader that has fallen silent still leads: the others are asked, while its own answer is waited for as before.
//!
//! A leader that is only slow loses nobody: nothing that is believed is given up, and nothing is sent to it.

use super::Shared;
use super::dial::{DialError, attach, first_words};
use cairn_core::limits::{ELECTION_PAUSE_MAX, HELLO_ANSWER_MAX, LEADER_DOUBT};
use cairn_core::time::Tick;
use cairn_proto::v1::ClientHello;
use futures::StreamExt;
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use std::collections::BTreeSet;
use std::pin::Pin;
use std::time::Duration;
use tokio::time::{Instant, Sleep};

/// A session that no master ever opens: they count up from 1. A master that does not lead says that first; one that leads does
/// not know the session.
const NO_SESSION: u64 = u64::MAX;

/// Of one connection.
pub(super) struct Doubts<'a> {
    shared: &'a Shared,
    doubted: String,
    /// Set again only when it has run out: there are far more messages than doubts.
    timer: Pin<Box<Sleep>>,
    question: Option<BoxFuture<'a, String>>,
}

impl<'a> Doubts<'a> {
    /// None yet of the master at this address.
    pub(super) fn new(shared: &'a Shared, doubted: String) -> Self {
        Self { shared, doubted, timer: Box::pin(tokio::time::sleep(LEADER_DOUBT)), question: None }
    }

    /// It has said something.
    pub(super) fn dispel(&mut self) {
        self.question = None;
    }

    /// Waits until another master leads; asks once this one, last heard at `heard`, has been silent for long. Dropped and called
    /// again it goes on where it was.
    pub(super) async fn confirmed(&mut self, heard: Tick) -> String {
        loop {
            if let Some(question) = &mut self.question {
                return question.await;
            }
            self.timer.as_mut().await;
            let silence = self.shared.env.clock.now().since(heard);
            if silence >= LEADER_DOUBT {
                self.question = Some(Box::pin(another_leads(self.shared, self.doubted.clone())));
            }
            let left = LEADER_DOUBT.saturating_sub(silence).max(Duration::from_millis(1));
            self.timer.as_mut().reset(Instant::now() + left);
        }
    }
}

async fn another_leads(shared: &Shared, doubted: String) -> String {
    let told = shared.told().clone();
    let known: BTreeSet<String> = shared.options.masters.iter().cloned().chain(told).collect();
    let others = known.into_iter().filter(|address| *address != doubted);
    let mut asked: FuturesUnordered<_> = others.map(|address| leads(shared, address)).collect();
    match asked.next().await {
        Some(address) => address,
        None => std::future::pending().await,
    }
}

/// Asks one master until it leads.
async fn leads(shared: &Shared, address: String) -> String {
    loop {
        let asked = attach(shared, &address, question);
        if let Ok(Err(DialError::SessionUnknown)) = tokio::time::timeout(HELLO_ANSWER_MAX, asked).await {
            return address;
        }
        let jitter = shared.env.random.below(ELECTION_PAUSE_MAX.as_micros() as u64 + 1);
        tokio::time::sleep(ELECTION_PAUSE_MAX / 2 + Duration::from_micros(jitter)).await;
    }
}

/// A hello that nobody welcomes.
fn question(shared: &Shared) -> ClientHello {
    let hello = Some(first_words(shared, &shared.table()));
    ClientHello { hello, session: NO_SESSION, ..ClientHello::default() }
}
