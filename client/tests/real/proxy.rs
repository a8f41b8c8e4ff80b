//! A network between the clients and a server that can lose what tells of the end of connections.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::Instant;

/// Passes connections on, for as long as it lives.
pub struct Proxy {
    pub address: SocketAddr,
    /// Until then nobody is told that a connection has ended.
    silent_until: Arc<Mutex<Instant>>,
    passing: tokio::task::JoinHandle<()>,
}

impl Proxy {
    /// One that leads to `server`.
    pub async fn to(server: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let silent_until = Arc::new(Mutex::new(Instant::now()));
        let until = Arc::clone(&silent_until);
        let passing = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let until = Arc::clone(&until);
                tokio::spawn(async move { pass(client, server, &until).await });
            }
        });
        Self { address, silent_until, passing }
    }

    /// Connections that end do so silently until `span` has gone by: what is sent on them is lost.
    pub fn hide_the_end_of_all(&self, span: Duration) {
        *self.silent_until.lock().unwrap() = Instant::now() + span;
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.passing.abort();
    }
}

async fn pass(mut client: TcpStream, server: SocketAddr, silent_until: &Mutex<Instant>) {
    let Ok(mut to) = TcpStream::connect(server).await else { return };
    {
        let ((mut from_client, mut to_client), (mut from_server, mut to_server)) =
            (client.split(), to.split());
        // Whoever ends, and why: the other one is told by the end of this function.
        tokio::select! {
            _ = tokio::io::copy(&mut from_client, &mut to_server) => {}
            _ = tokio::io::copy(&mut from_server, &mut to_client) => {}
        }
    }
    drop(to);
    let until = *silent_until.lock().unwrap();
    tokio::time::sleep_until(until).await;
}
