//! The gRPC service of masters that lack journal or state: rare, and long.

use crate::driven::Driven;
use crate::filling::{admit, serve};
use crate::parts::Parts;
use cairn_core::limits::FILL_PARTS_QUEUED;
use cairn_proto::v1::group_server::Group;
use cairn_proto::v1::{FillPart, FillRequest, JoinReply, JoinRequest};
use futures::FutureExt;
use std::sync::Arc;
use tokio::sync::mpsc;
use tonic::{Request, Response, Status};

/// Serves masters that are to be filled.
pub(crate) struct GroupService {
    pub(crate) parts: Arc<Parts>,
}

#[tonic::async_trait]
impl Group for GroupService {
    type FillStream = Driven<Result<FillPart, Status>>;

    async fn join(&self, request: Request<JoinRequest>) -> Result<Response<JoinReply>, Status> {
        Ok(Response::new(admit::join(&self.parts, request.into_inner()).await))
    }

    async fn fill(&self, request: Request<FillRequest>) -> Result<Response<Self::FillStream>, Status> {
        let (out, parts) = mpsc::channel(FILL_PARTS_QUEUED);
        let work = serve::fill(self.parts.clone(), request.into_inner(), out);
        Ok(Response::new(Driven::new(work.boxed(), parts)))
    }
}
