//! etcd's Cluster service: one member, which can't be changed.

use etcd_client::proto::{
    PbClusterService, PbMember, PbMemberAddRequest, PbMemberAddResponse, PbMemberListRequest, PbMemberListResponse,
    PbMemberPromoteRequest, PbMemberPromoteResponse, PbMemberRemoveRequest, PbMemberRemoveResponse,
    PbMemberUpdateRequest, PbMemberUpdateResponse,
};
use tonic::{Request, Response, Status};

use super::{Face, MEMBER_ID};

type Answer<T> = Result<Response<T>, Status>;

#[tonic::async_trait]
impl PbClusterService for Face {
    async fn member_list(&self, _: Request<PbMemberListRequest>) -> Answer<PbMemberListResponse> {
        let header = self.header(self.store.current_revision().await?);
        let urls = vec![self.url.clone()];
        let member = PbMember {
            id: MEMBER_ID,
            name: "kine".into(),
            peer_ur_ls: urls.clone(),
            client_ur_ls: urls,
            ..PbMember::default()
        };
        Ok(Response::new(PbMemberListResponse { header, members: vec![member] }))
    }

    async fn member_add(&self, _: Request<PbMemberAddRequest>) -> Answer<PbMemberAddResponse> {
        Err(one_member())
    }

    async fn member_remove(&self, _: Request<PbMemberRemoveRequest>) -> Answer<PbMemberRemoveResponse> {
        Err(one_member())
    }

    async fn member_update(&self, _: Request<PbMemberUpdateRequest>) -> Answer<PbMemberUpdateResponse> {
        Err(one_member())
    }

    async fn member_promote(&self, _: Request<PbMemberPromoteRequest>) -> Answer<PbMemberPromoteResponse> {
        Err(one_member())
    }
}

fn one_member() -> Status {
    Status::unimplemented("kine: the cluster is this one member; for more, let several servers share a database")
}
