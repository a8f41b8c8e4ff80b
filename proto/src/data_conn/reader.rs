//! Frames out of a byte stream. Lengths are checked by the header's codec before anything is allocated.

use crate::connection::{BoxRead, ConnError};
use crate::data_conn::buffers::PayloadPool;
use crate::frame::{Frame, HEADER_BYTES, Header};
use std::io;
use std::sync::Arc;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};

/// One read of the socket brings several small frames; what is left of a large payload bypasses this buffer.
const READ_AHEAD_BYTES: usize = 32 * 1024;

pub(crate) struct FrameReader {
    source: BufReader<BoxRead>,
    pool: PayloadPool,
    peer: Arc<str>,
}

impl FrameReader {
    pub(crate) fn new(source: BoxRead, pool: PayloadPool, peer: Arc<str>) -> Self {
        Self { source: BufReader::with_capacity(READ_AHEAD_BYTES, source), pool, peer }
    }

    /// The next fixed header. The body must be taken or skipped before the next call.
    pub(crate) async fn header(&mut self) -> Result<Header, ConnError> {
        let mut fixed = [0; HEADER_BYTES];
        self.read(&mut fixed).await?;
        Header::decode(&fixed).map_err(|source| ConnError::Protocol { peer: self.peer.clone(), source })
    }

    /// The rest of the frame that `header` began.
    pub(crate) async fn body(&mut self, header: Header) -> Result<Frame, ConnError> {
        if header.body_len() == 0 {
            return Ok(Frame::bare(header));
        }
        let mut tail = vec![0; header.body_len() - header.payload_len as usize];
        self.read(&mut tail).await?;
        let mut payload = self.pool.take(header.payload_len as usize);
        self.read(payload.as_mut()).await?;
        Frame::assemble(header, &tail, payload.freeze())
            .map_err(|source| ConnError::Protocol { peer: self.peer.clone(), source })
    }

    /// Whether the next frame can be read without waiting: all of it is here already.
    pub(crate) fn has_whole_frame(&self) -> bool {
        let here = self.source.buffer();
        match here.first_chunk::<HEADER_BYTES>() {
            // What does not decode is refused without waiting, too.
            Some(fixed) => {
                Header::decode(fixed).map_or(true, |header| here.len() - HEADER_BYTES >= header.body_len())
            }
            None => false,
        }
    }

    /// Passes over the body of a frame that is refused.
    pub(crate) async fn skip_body(&mut self, header: &Header) -> Result<(), ConnError> {
        let mut rest = header.body_len();
        while rest > 0 {
            let seen = self.source.fill_buf().await.map_err(|error| ConnError::io(&self.peer, error))?.len();
            if seen == 0 {
                return Err(ConnError::io(&self.peer, io::ErrorKind::UnexpectedEof.into()));
            }
            self.source.consume(seen.min(rest));
            rest -= seen.min(rest);
        }
        Ok(())
    }

    async fn read(&mut self, into: &mut [u8]) -> Result<(), ConnError> {
        match self.source.read_exact(into).await {
            Ok(_) => Ok(()),
            Err(error) => Err(ConnError::io(&self.peer, error)),
        }
    }
}
