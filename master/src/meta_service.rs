//! The gRPC service of clients.

use crate::parts::Parts;
use crate::session_stream::SessionStream;
use cairn_proto::v1::ClientMessage;
use cairn_proto::v1::meta_server::Meta;
use std::sync::Arc;
use tonic::{Request, Response, Status, Streaming};

/// Serves client sessions.
pub(crate) struct MetaService {
    pub(crate) parts: Arc<Parts>,
}

#[tonic::async_trait]
impl Meta for MetaService {
    type SessionStream = SessionStream;

    async fn session(
        &self,
        request: Request<Streaming<ClientMessage>>,
    ) -> Result<Response<SessionStream>, Status> {
        Ok(Response::new(SessionStream::new(self.parts.clone(), request.into_inner())))
    }
}
