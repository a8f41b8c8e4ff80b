//! The connection of a client's session with a master, and of a master with another: prost messages in frames of our own.
//!
//! ```text
//!   caller:  "CRNs" or "CRNp"  frame  frame …          master:  frame  frame …
//!   frame:   length u32 LE | CRC-32 of the message u32 LE | message
//! ```
//!
//! Why not a gRPC stream, as everywhere else on the control plane: a stream's connection is driven by a task, to which each
//! message must be handed over, which costs a wake-up of another core in each direction; here whoever has a message
//! writes it ([`Link`]). All share the master's port: gRPC begins with "PRI ", a session with [`SESSION`]'s magic, another
//! master with [`PEERS`]'.

use crate::connection::{BoxRead, ConnError, Link, Outgoing};
use crate::frame::FrameError;
use bytes::{Buf, BufMut, Bytes, BytesMut};
use cairn_core::limits::{CONTROL_MESSAGE_BYTES_MAX, PEER_MESSAGE_BYTES_MAX};
use prost::Message;
use std::io;
use std::marker::PhantomData;
use std::sync::Arc;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite};
use tokio::sync::OwnedSemaphorePermit;

/// Who talks in these frames, and how much at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Conversation {
    /// First bytes of the connection.
    pub magic: [u8; 4],
    /// A longer message breaks the protocol.
    pub message_bytes_max: usize,
}

/// A client's session with a master.
pub const SESSION: Conversation =
    Conversation { magic: *b"CRNs", message_bytes_max: CONTROL_MESSAGE_BYTES_MAX };
/// A master with another of its group.
pub const PEERS: Conversation = Conversation { magic: *b"CRNp", message_bytes_max: PEER_MESSAGE_BYTES_MAX };

const HEAD_BYTES: usize = 8;
/// Room for several small messages per read of the socket.
const READ_AHEAD_BYTES: usize = 16 * 1024;

/// Begins a conversation on a fresh stream, as the one who dialled. `peer` names the other side in errors. Must be called
/// within a runtime.
///
/// # Errors
/// The connection has died already.
pub fn begin<M: Message + Default>(
    conversation: Conversation,
    read: impl AsyncRead + Send + Unpin + 'static,
    write: impl AsyncWrite + Send + Unpin + 'static,
    peer: &str,
) -> Result<(Arc<Link>, MessageReader<M>), ConnError> {
    let (link, reader) = attend(conversation, read, write, peer);
    link.send(Outgoing::new(Bytes::copy_from_slice(&conversation.magic), Bytes::new(), Vec::new()))?;
    Ok((link, reader))
}

/// As [`begin`], on the side that was dialled and has read the magic.
pub fn attend<M: Message + Default>(
    conversation: Conversation,
    read: impl AsyncRead + Send + Unpin + 'static,
    write: impl AsyncWrite + Send + Unpin + 'static,
    peer: &str,
) -> (Arc<Link>, MessageReader<M>) {
    let peer: Arc<str> = peer.into();
    let reader = MessageReader {
        source: Box::new(read),
        buffer: BytesMut::with_capacity(READ_AHEAD_BYTES),
        peer: peer.clone(),
        message_bytes_max: conversation.message_bytes_max,
        _message: PhantomData,
    };
    (Link::new(Box::new(write), peer), reader)
}

/// A message as it leaves; `places` are given back when it has left.
pub fn framed(message: &impl Message, places: Vec<OwnedSemaphorePermit>) -> Outgoing {
    let length = message.encoded_len();
    let mut frame = BytesMut::with_capacity(HEAD_BYTES + length);
    frame.put_u32_le(length as u32);
    frame.put_u32_le(0);
    message.encode(&mut frame).expect("a buffer grows as needed");
    let sum = crc32fast::hash(&frame[HEAD_BYTES..]);
    frame[4..HEAD_BYTES].copy_from_slice(&sum.to_le_bytes());
    Outgoing::new(frame.freeze(), Bytes::new(), places)
}

/// Messages out of a byte stream. Lengths are checked before anything is allocated.
pub struct MessageReader<M> {
    source: BoxRead,
    buffer: BytesMut,
    peer: Arc<str>,
    message_bytes_max: usize,
    _message: PhantomData<fn() -> M>,
}

impl<M: Message + Default> MessageReader<M> {
    /// The next message; `None` when the peer has closed between two of them. Nothing is lost when the future is dropped.
    ///
    /// # Errors
    /// The stream failed or ended in the midst of a message, or what came is no message.
    pub async fn next(&mut self) -> Result<Option<M>, ConnError> {
        loop {
            if let Some(message) = self.buffered()? {
                return Ok(Some(message));
            }
            if self.buffer.capacity() - self.buffer.len() < READ_AHEAD_BYTES / 4 {
                self.buffer.reserve(READ_AHEAD_BYTES);
            }
            match self.source.read_buf(&mut self.buffer).await {
                Ok(0) if self.buffer.is_empty() => return Ok(None),
                Ok(0) => return Err(ConnError::io(&self.peer, io::ErrorKind::UnexpectedEof.into())),
                Ok(_) => {}
                Err(error) => return Err(ConnError::io(&self.peer, error)),
            }
        }
    }

    /// Whether the next message can be read without waiting: all of it is here already.
    pub fn has_whole_message(&self) -> bool {
        let head = self.buffer.first_chunk::<HEAD_BYTES>();
        head.is_some_and(|head| self.buffer.len() - HEAD_BYTES >= u32_at(head, 0) as usize)
    }

    /// Whom the connection is with, for errors.
    pub fn peer(&self) -> &Arc<str> {
        &self.peer
    }

    fn buffered(&mut self) -> Result<Option<M>, ConnError> {
        let Some(head) = self.buffer.first_chunk::<HEAD_BYTES>() else { return Ok(None) };
        let (length, sum) = (u32_at(head, 0) as usize, u32_at(head, 4));
        if length > self.message_bytes_max {
            return Err(self.broken("message: longer than permitted"));
        }
        if self.buffer.len() < HEAD_BYTES + length {
            self.buffer.reserve(HEAD_BYTES + length - self.buffer.len());
            return Ok(None);
        }
        self.buffer.advance(HEAD_BYTES);
        let bytes = self.buffer.split_to(length).freeze();
        if crc32fast::hash(&bytes) != sum {
            return Err(self.broken("message: checksum"));
        }
        M::decode(bytes).map(Some).map_err(|_| self.broken("message: does not decode"))
    }

    fn broken(&self, what: &'static str) -> ConnError {
        ConnError::Protocol { peer: self.peer.clone(), source: FrameError::Invalid(what) }
    }
}

fn u32_at(head: &[u8; HEAD_BYTES], at: usize) -> u32 {
    u32::from_le_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]])
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use crate::v1::{Invalidated, SessionEnded};
    use tokio::io::{AsyncWriteExt, DuplexStream};

    fn reader(of: DuplexStream) -> MessageReader<SessionEnded> {
        let (read, write) = tokio::io::split(of);
        attend(SESSION, read, write, "client 7").1
    }

    fn said(reason: &str) -> SessionEnded {
        SessionEnded { reason: reason.to_owned() }
    }

    async fn sent(messages: &[SessionEnded]) -> Vec<u8> {
        let (near, mut far) = tokio::io::duplex(1 << 20);
        let (read, write) = tokio::io::split(near);
        let (link, _reader) = begin::<Invalidated>(SESSION, read, write, "master 7").unwrap();
        for message in messages {
            link.send(framed(message, Vec::new())).unwrap();
        }
        link.send_last(framed(&said("end"), Vec::new())).unwrap();
        drop((link, _reader));
        let mut bytes = Vec::new();
        far.read_to_end(&mut bytes).await.unwrap();
        bytes
    }

    #[tokio::test]
    async fn messages_arrive_whole_and_in_order_however_they_are_cut() {
        let long = "x".repeat(100_000);
        let bytes = sent(&[said("one"), said(&long), said("")]).await;
        assert_eq!(bytes[..4], SESSION.magic);
        let (mut near, far) = tokio::io::duplex(64);
        let mut reader = reader(far);
        let feed = async {
            for piece in bytes[4..].chunks(7) {
                near.write_all(piece).await.unwrap();
            }
            drop(near);
        };
        let read = async {
            let mut heard = Vec::new();
            while let Some(message) = reader.next().await.unwrap() {
                heard.push(message.reason);
            }
            heard
        };
        let ((), heard) = tokio::join!(feed, read);
        assert_eq!(heard, ["one", &long, "", "end"]);
    }

    #[tokio::test]
    async fn each_damaged_byte_is_noticed() {
        let bytes = sent(&[]).await.split_off(4);
        for at in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[at] ^= 0x10;
            let (mut near, far) = tokio::io::duplex(1 << 20);
            near.write_all(&damaged).await.unwrap();
            drop(near);
            assert!(reader(far).next().await.is_err(), "byte {at}");
        }
    }

    #[tokio::test]
    async fn a_hostile_length_allocates_nothing() {
        let (mut near, far) = tokio::io::duplex(1 << 10);
        near.write_all(&[0xff; 8]).await.unwrap();
        let mut reader = reader(far);
        let error = reader.next().await.unwrap_err();
        assert!(matches!(error, ConnError::Protocol { .. }), "{error}");
        assert!(reader.buffer.capacity() <= 2 * READ_AHEAD_BYTES);
    }
}
