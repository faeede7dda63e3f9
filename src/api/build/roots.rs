//! The types that the API serves, out of k8s-openapi.

use k8s_openapi::{ClusterResourceScope, NamespaceResourceScope, SubResourceScope};
use schemars::{JsonSchema, SchemaGenerator};
use serde_json::{Map, Value};

/// What k8s-openapi's type says of a resource.
pub struct Resource {
    pub group: &'static str,
    pub version: &'static str,
    pub kind: &'static str,
    pub plural: &'static str,
    pub namespaced: bool,
    /// The name of its definition, such as `io.k8s.api.core.v1.Pod`.
    pub definition: String,
    /// Whether it has lists.
    pub listed: bool,
}

pub struct Roots {
    pub resources: Vec<Resource>,
    /// All definitions by name.
    pub definitions: Map<String, Value>,
}

trait Scope {
    const NAMESPACED: bool;
}
impl Scope for ClusterResourceScope {
    const NAMESPACED: bool = false;
}
impl Scope for NamespaceResourceScope {
    const NAMESPACED: bool = true;
}
impl Scope for SubResourceScope {
    const NAMESPACED: bool = true;
}

fn resource<T: k8s_openapi::Resource + JsonSchema>(listed: bool) -> Resource
where
    T::Scope: Scope,
{
    Resource {
        group: T::GROUP,
        version: T::VERSION,
        kind: T::KIND,
        plural: T::URL_PATH_SEGMENT,
        namespaced: T::Scope::NAMESPACED,
        definition: T::schema_name().into_owned(),
        listed,
    }
}

/// Resources with lists, resources without, and types that are only bodies.
macro_rules! roots {
    (lists { $($group:ident :: $version:ident :: { $($kind:ident),* $(,)? })* }
     extensions { $($extension:path),* $(,)? }
     single { $($single:path),* $(,)? }
     bodies { $($body:path),* $(,)? }) => {
        pub fn roots() -> Roots {
            let mut generator = SchemaGenerator::default();
            let mut resources = Vec::new();
            $($({
                type Kind = k8s_openapi::api::$group::$version::$kind;
                resources.push(resource::<Kind>(true));
                generator.subschema_for::<Kind>();
            })*)*
            $({
                type Kind = $single;
                resources.push(resource::<Kind>(false));
                generator.subschema_for::<Kind>();
            })*
            $(generator.subschema_for::<$body>();)*
            $({
                type Kind = $extension;
                resources.push(resource::<Kind>(true));
                generator.subschema_for::<Kind>();
            })*
            Roots { resources, definitions: generator.take_definitions(false) }
        }
    };
}

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1 as crd;
use k8s_openapi::apimachinery::pkg::apis::meta::v1 as meta;
use k8s_openapi::kube_aggregator::pkg::apis::apiregistration::v1 as aggregator;

roots! {
    lists {
        core::v1::{
            ComponentStatus, ConfigMap, Endpoints, Event, LimitRange, Namespace, Node, PersistentVolume,
            PersistentVolumeClaim, Pod, PodTemplate, ReplicationController, ResourceQuota, Secret, Service,
            ServiceAccount,
        }
        admissionregistration::v1::{
            MutatingAdmissionPolicy, MutatingAdmissionPolicyBinding, MutatingWebhookConfiguration,
            ValidatingAdmissionPolicy, ValidatingAdmissionPolicyBinding, ValidatingWebhookConfiguration,
        }
        apps::v1::{ControllerRevision, DaemonSet, Deployment, ReplicaSet, StatefulSet}
        autoscaling::v1::{HorizontalPodAutoscaler}
        autoscaling::v2::{HorizontalPodAutoscaler}
        batch::v1::{CronJob, Job}
        certificates::v1::{CertificateSigningRequest}
        coordination::v1::{Lease}
        discovery::v1::{EndpointSlice}
        events::v1::{Event}
        flowcontrol::v1::{FlowSchema, PriorityLevelConfiguration}
        networking::v1::{Ingress, IngressClass, IPAddress, NetworkPolicy, ServiceCIDR}
        node::v1::{RuntimeClass}
        policy::v1::{PodDisruptionBudget}
        rbac::v1::{ClusterRole, ClusterRoleBinding, Role, RoleBinding}
        resource::v1::{DeviceClass, ResourceClaim, ResourceClaimTemplate, ResourceSlice}
        scheduling::v1::{PriorityClass}
        storage::v1::{
            CSIDriver, CSINode, CSIStorageCapacity, StorageClass, VolumeAttachment, VolumeAttributesClass,
        }
    }
    extensions { crd::CustomResourceDefinition, aggregator::APIService }
    single {
        k8s_openapi::api::core::v1::Binding,
        k8s_openapi::api::authentication::v1::SelfSubjectReview,
        k8s_openapi::api::authentication::v1::TokenReview,
        k8s_openapi::api::authorization::v1::LocalSubjectAccessReview,
        k8s_openapi::api::authorization::v1::SelfSubjectAccessReview,
        k8s_openapi::api::authorization::v1::SelfSubjectRulesReview,
        k8s_openapi::api::authorization::v1::SubjectAccessReview,
    }
    bodies {
        k8s_openapi::api::authentication::v1::TokenRequest,
        k8s_openapi::api::autoscaling::v1::Scale,
        k8s_openapi::api::policy::v1::Eviction,
        meta::ListMeta, meta::APIGroup, meta::APIGroupList, meta::APIResourceList, meta::APIVersions, meta::DeleteOptions,
        meta::Patch, meta::Status, meta::WatchEvent<k8s_openapi::apimachinery::pkg::runtime::RawExtension>,
        k8s_openapi::apimachinery::pkg::version::Info,
    }
}
