//! A stream of messages together with the future that makes them: both live and end with the connection that polls them,
//! so that no task outlives its client.

use futures::future::BoxFuture;
use futures::{FutureExt, Stream};
use std::pin::Pin;
use std::task::{Context, Poll};
use tokio::sync::mpsc;

/// What `work` sends into the channel of `out`, until both have ended.
pub(crate) struct Driven<T> {
    work: Option<BoxFuture<'static, ()>>,
    out: mpsc::Receiver<T>,
}

impl<T> Driven<T> {
    /// A stream that drives `work`; the work's senders feed `out`.
    pub(crate) fn new(work: BoxFuture<'static, ()>, out: mpsc::Receiver<T>) -> Self {
        Self { work: Some(work), out }
    }
}

impl<T> Stream for Driven<T> {
    type Item = T;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<T>> {
        if let Some(work) = &mut self.work
            && work.poll_unpin(context).is_ready()
        {
            self.work = None;
            // Others may hold senders; what they send now would reach nobody.
            self.out.close();
        }
        self.out.poll_recv(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::StreamExt;

    #[tokio::test]
    async fn everything_sent_arrives_before_the_end() {
        let (sender, receiver) = mpsc::channel(2);
        let kept = sender.clone();
        let work = async move {
            for number in 0..10 {
                sender.send(number).await.unwrap();
            }
        };
        let all: Vec<_> = Driven::new(work.boxed(), receiver).collect().await;
        assert_eq!(all, (0..10).collect::<Vec<_>>());
        assert!(kept.is_closed());
    }
}
