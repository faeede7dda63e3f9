//! The columns of each built-in resource, as `kubectl get` shows them.

use super::Doc::Text;
use super::{Column, column, of};

const META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta";
pub(super) const NAME: Column = column("Name", of(META, "name")).name();
pub(super) const AGE: Column = column("Age", of(META, "creationTimestamp"));
pub(super) const CREATED_AT: Column = column("Created At", of(META, "creationTimestamp")).date();
const CONTAINERS: Column = column("Containers", Text("Names of each container in the template.")).wide();
const IMAGES: Column = column("Images", Text("Images referenced by each container in the template.")).wide();

/// For kinds that have nothing more to show.
pub(super) const NAME_AND_CREATION: &[Column] = &[NAME, CREATED_AT];
/// For kinds that show their age and nothing more.
pub(super) const NAME_AND_AGE: &[Column] = &[NAME, AGE];

pub(super) const APISERVICES: &[Column] = &[
    NAME,
    column("Service", Text("The reference to the service that hosts this API endpoint.")),
    column("Available", Text("Whether this service is available.")),
    AGE,
];
pub(super) const CERTIFICATESIGNINGREQUESTS: &[Column] = &[
    NAME,
    AGE,
    // Kubernetes looks these up in the beta version, and the requestor under the name of another field.
    column(
        "SignerName",
        Text(
            "Requested signer for the request. It is a qualified name in the form: `scope-hostname.io/name`. If empty, it will be defaulted:\n 1. If it's a kubelet client certificate, it is assigned\n    \"kubernetes.io/kube-apiserver-client-kubelet\".\n 2. If it's a kubelet serving certificate, it is assigned\n    \"kubernetes.io/kubelet-serving\".\n 3. Otherwise, it is assigned \"kubernetes.io/legacy-unknown\".\nDistribution of trust for signers happens out of band. You can select on this field using `spec.signerName`.",
        ),
    ),
    column("Requestor", Text("Base64-encoded PKCS#10 CSR data")),
    column("RequestedDuration", of("certificates.v1.CertificateSigningRequestSpec", "expirationSeconds")),
    column("Condition", Text("Conditions applied to the request, such as approval or denial.")),
];
pub(super) const CLUSTERROLEBINDINGS: &[Column] = &[
    NAME,
    column(
        "Role",
        Text(
            "RoleRef can only reference a ClusterRole in the global namespace. If the RoleRef cannot be resolved, the Authorizer must return an error.",
        ),
    ),
    AGE,
    column("Users", Text("Users in the clusterRoleBinding")).wide(),
    column("Groups", Text("Groups in the clusterRoleBinding")).wide(),
    column("ServiceAccounts", Text("ServiceAccounts in the clusterRoleBinding")).wide(),
];
pub(super) const COMPONENTSTATUSES: &[Column] = &[
    NAME,
    column("Status", Text("Status of the component conditions")),
    column("Message", Text("Message of the component conditions")),
    column("Error", Text("Error of the component conditions")),
];
pub(super) const CONFIGMAPS: &[Column] = &[NAME, column("Data", of("core.v1.ConfigMap", "data")), AGE];
pub(super) const CONTROLLERREVISIONS: &[Column] = &[
    NAME,
    column("Controller", Text("Controller of the object")),
    column("Revision", of("apps.v1.ControllerRevision", "revision")),
    AGE,
];
pub(super) const CRONJOBS: &[Column] = &[
    NAME,
    column("Schedule", of("batch.v1.CronJobSpec", "schedule")),
    column("Timezone", of("batch.v1.CronJobSpec", "timeZone")),
    column("Suspend", of("batch.v1.CronJobSpec", "suspend")).boolean(),
    column("Active", of("batch.v1.CronJobStatus", "active")).integer(),
    column("Last Schedule", of("batch.v1.CronJobStatus", "lastScheduleTime")),
    AGE,
    CONTAINERS,
    IMAGES,
    column("Selector", of("batch.v1.JobSpec", "selector")).wide(),
];
pub(super) const CSIDRIVERS: &[Column] = &[
    NAME,
    column("AttachRequired", of("storage.v1.CSIDriverSpec", "attachRequired")).boolean(),
    column("PodInfoOnMount", of("storage.v1.CSIDriverSpec", "podInfoOnMount")).boolean(),
    column("StorageCapacity", of("storage.v1.CSIDriverSpec", "storageCapacity")).boolean(),
    column("TokenRequests", of("storage.v1.CSIDriverSpec", "tokenRequests")),
    column("RequiresRepublish", of("storage.v1.CSIDriverSpec", "requiresRepublish")).boolean(),
    column("Modes", of("storage.v1.CSIDriverSpec", "volumeLifecycleModes")),
    AGE,
];
pub(super) const CSINODES: &[Column] = &[
    NAME,
    column("Drivers", Text("Drivers indicates the number of CSI drivers registered on the node")).integer(),
    AGE,
];
pub(super) const CSISTORAGECAPACITIES: &[Column] = &[
    NAME,
    column("StorageClassName", of("storage.v1.CSIStorageCapacity", "storageClassName")),
    column("Capacity", of("storage.v1.CSIStorageCapacity", "capacity")),
];
pub(super) const DAEMONSETS: &[Column] = &[
    NAME,
    column("Desired", of("apps.v1.DaemonSetStatus", "desiredNumberScheduled")).integer(),
    column("Current", of("apps.v1.DaemonSetStatus", "currentNumberScheduled")).integer(),
    column("Ready", of("apps.v1.DaemonSetStatus", "numberReady")).integer(),
    column("Up-to-date", of("apps.v1.DaemonSetStatus", "updatedNumberScheduled")).integer(),
    column("Available", of("apps.v1.DaemonSetStatus", "numberAvailable")).integer(),
    column("Node Selector", of("core.v1.PodSpec", "nodeSelector")),
    AGE,
    CONTAINERS,
    IMAGES,
    column("Selector", of("apps.v1.DaemonSetSpec", "selector")).wide(),
];
pub(super) const DEPLOYMENTS: &[Column] = &[
    NAME,
    column("Ready", Text("Number of the pod with ready state")),
    column("Up-to-date", of("apps.v1.DeploymentStatus", "updatedReplicas")),
    column("Available", of("apps.v1.DeploymentStatus", "availableReplicas")),
    AGE,
    CONTAINERS,
    IMAGES,
    column("Selector", of("apps.v1.DeploymentSpec", "selector")).wide(),
];
pub(super) const ENDPOINTS: &[Column] = &[NAME, column("Endpoints", of("core.v1.Endpoints", "subsets")), AGE];
pub(super) const ENDPOINTSLICES: &[Column] = &[
    NAME,
    column("AddressType", of("discovery.v1.EndpointSlice", "addressType")),
    column("Ports", of("discovery.v1.EndpointSlice", "ports")),
    column("Endpoints", of("discovery.v1.EndpointSlice", "endpoints")),
    AGE,
];
pub(super) const EVENTS: &[Column] = &[
    column("Last Seen", of("core.v1.Event", "lastTimestamp")),
    column("Type", of("core.v1.Event", "type")),
    column("Reason", of("core.v1.Event", "reason")),
    column("Object", of("core.v1.Event", "involvedObject")),
    column("Subobject", of("core.v1.ObjectReference", "fieldPath")).wide(),
    column("Source", of("core.v1.Event", "source")).wide(),
    column("Message", of("core.v1.Event", "message")),
    column("First Seen", of("core.v1.Event", "firstTimestamp")).wide(),
    column("Count", of("core.v1.Event", "count")).wide(),
    column("Name", of("io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta", "name")).name().wide(),
];
pub(super) const FLOWSCHEMAS: &[Column] = &[
    NAME,
    column("PriorityLevel", of("flowcontrol.v1.PriorityLevelConfigurationReference", "name")),
    column("MatchingPrecedence", of("flowcontrol.v1.FlowSchemaSpec", "matchingPrecedence")),
    column("DistinguisherMethod", of("flowcontrol.v1.FlowSchemaSpec", "distinguisherMethod")),
    AGE,
    column("MissingPL", Text("references a broken or non-existent PriorityLevelConfiguration")),
];
pub(super) const HORIZONTALPODAUTOSCALERS: &[Column] = &[
    NAME,
    column("Reference", of("autoscaling.v2.HorizontalPodAutoscalerSpec", "scaleTargetRef")),
    column("Targets", of("autoscaling.v2.HorizontalPodAutoscalerSpec", "metrics")),
    column("MinPods", of("autoscaling.v1.HorizontalPodAutoscalerSpec", "minReplicas")),
    column("MaxPods", of("autoscaling.v2.HorizontalPodAutoscalerSpec", "maxReplicas")),
    column("Replicas", of("autoscaling.v2.HorizontalPodAutoscalerStatus", "currentReplicas")),
    AGE,
];
pub(super) const INGRESSCLASSES: &[Column] = &[
    NAME,
    column("Controller", Text("Controller that is responsible for handling this class")),
    column("Parameters", Text("A reference to a resource with additional parameters")),
    AGE,
];
pub(super) const INGRESSES: &[Column] = &[
    NAME,
    column("Class", Text("The name of the IngressClass resource that should be used for additional configuration")),
    column("Hosts", Text("Hosts that incoming requests are matched against before the ingress rule")),
    column("Address", Text("Address is a list containing ingress points for the load-balancer")),
    column("Ports", Text("Ports of TLS configurations that open")),
    AGE,
];
pub(super) const IPADDRESSES: &[Column] = &[NAME, column("ParentRef", of("networking.v1.IPAddressSpec", "parentRef"))];
pub(super) const JOBS: &[Column] = &[
    NAME,
    column("Status", Text("Status of the job.")),
    column("Completions", of("batch.v1.JobStatus", "succeeded")),
    column("Duration", Text("Time required to complete the job.")),
    AGE,
    CONTAINERS,
    IMAGES,
    column("Selector", of("batch.v1.JobSpec", "selector")).wide(),
];
pub(super) const LEASES: &[Column] = &[NAME, column("Holder", of("coordination.v1.LeaseSpec", "holderIdentity")), AGE];
pub(super) const MUTATINGADMISSIONPOLICIES: &[Column] = &[
    NAME,
    column("Mutations", Text("Mutation indicates the number of mutations rules defined in this configuration"))
        .integer(),
    column("ParamKind", Text("ParamKind specifies the kind of resources used to parameterize this policy")),
    AGE,
];
pub(super) const MUTATINGADMISSIONPOLICYBINDINGS: &[Column] = &[
    NAME,
    column("PolicyName", Text("PolicyName indicates the policy definition which the policy binding binded to")),
    column("ParamRef", Text("ParamRef indicates the param resource which sets the configuration param")),
    AGE,
];
pub(super) const MUTATINGWEBHOOKCONFIGURATIONS: &[Column] = &[
    NAME,
    column("Webhooks", Text("Webhooks indicates the number of webhooks registered in this configuration")).integer(),
    AGE,
];
pub(super) const NAMESPACES: &[Column] = &[NAME, column("Status", Text("The status of the namespace")), AGE];
pub(super) const NETWORKPOLICIES: &[Column] = &[
    NAME,
    // The text of an older version, which is where Kubernetes looks it up; the same with ReplicaSets.
    column(
        "Pod-Selector",
        Text(
            "Selects the pods to which this NetworkPolicy object applies.  The array of ingress rules is applied to any pods selected by this field. Multiple network policies can select the same set of pods.  In this case, the ingress rules for each are combined additively. This field is NOT optional and follows standard label selector semantics. An empty podSelector matches all pods in this namespace.",
        ),
    ),
    AGE,
];
pub(super) const NODES: &[Column] = &[
    NAME,
    column("Status", Text("The status of the node")),
    column("Roles", Text("The roles of the node")),
    AGE,
    column("Version", of("core.v1.NodeSystemInfo", "kubeletVersion")),
    column("Internal-IP", of("core.v1.NodeStatus", "addresses")).wide(),
    column("External-IP", of("core.v1.NodeStatus", "addresses")).wide(),
    column("OS-Image", of("core.v1.NodeSystemInfo", "osImage")).wide(),
    column("Kernel-Version", of("core.v1.NodeSystemInfo", "kernelVersion")).wide(),
    column("Container-Runtime", of("core.v1.NodeSystemInfo", "containerRuntimeVersion")).wide(),
];
pub(super) const PERSISTENTVOLUMECLAIMS: &[Column] = &[
    NAME,
    column("Status", of("core.v1.PersistentVolumeClaimStatus", "phase")),
    column("Volume", of("core.v1.PersistentVolumeClaimSpec", "volumeName")),
    column("Capacity", of("core.v1.PersistentVolumeClaimStatus", "capacity")),
    column("Access Modes", of("core.v1.PersistentVolumeClaimStatus", "accessModes")),
    column("StorageClass", Text("StorageClass of the pvc")),
    column("VolumeAttributesClass", Text("VolumeAttributesClass of the pvc")),
    AGE,
    column("VolumeMode", of("core.v1.PersistentVolumeClaimSpec", "volumeMode")).wide(),
];
pub(super) const PERSISTENTVOLUMES: &[Column] = &[
    NAME,
    column("Capacity", of("core.v1.PersistentVolumeSpec", "capacity")),
    column("Access Modes", of("core.v1.PersistentVolumeSpec", "accessModes")),
    column("Reclaim Policy", of("core.v1.PersistentVolumeSpec", "persistentVolumeReclaimPolicy")),
    column("Status", of("core.v1.PersistentVolumeStatus", "phase")),
    column("Claim", of("core.v1.PersistentVolumeSpec", "claimRef")),
    column("StorageClass", Text("StorageClass of the pv")),
    column("VolumeAttributesClass", Text("VolumeAttributesClass of the pv")),
    column("Reason", of("core.v1.PersistentVolumeStatus", "reason")),
    AGE,
    column("VolumeMode", of("core.v1.PersistentVolumeSpec", "volumeMode")).wide(),
];
pub(super) const PODDISRUPTIONBUDGETS: &[Column] = &[
    NAME,
    column("Min Available", Text("The minimum number of pods that must be available.")),
    column("Max Unavailable", Text("The maximum number of pods that may be unavailable.")),
    column("Allowed Disruptions", Text("Calculated number of pods that may be disrupted at this time.")).integer(),
    AGE,
];
pub(super) const PODS: &[Column] = &[
    NAME,
    column("Ready", Text("The aggregate readiness state of this pod for accepting traffic.")),
    column("Status", Text("The aggregate status of the containers in this pod.")),
    column(
        "Restarts",
        Text(
            "The number of times the containers in this pod have been restarted and when the last container in this pod has restarted.",
        ),
    ),
    AGE,
    column("IP", of("core.v1.PodStatus", "podIP")).wide(),
    column("Node", of("core.v1.PodSpec", "nodeName")).wide(),
    column("Nominated Node", of("core.v1.PodStatus", "nominatedNodeName")).wide(),
    column("Readiness Gates", of("core.v1.PodSpec", "readinessGates")).wide(),
];
pub(super) const PODTEMPLATES: &[Column] = &[
    NAME,
    column("Containers", Text("Names of each container in the template.")),
    column("Images", Text("Images referenced by each container in the template.")),
    column("Pod Labels", Text("The labels for the pod template.")),
];
pub(super) const PRIORITYCLASSES: &[Column] = &[
    NAME,
    column("Value", of("scheduling.v1.PriorityClass", "value")).integer(),
    column("Global-Default", of("scheduling.v1.PriorityClass", "globalDefault")).boolean(),
    AGE,
    column("PreemptionPolicy", of("scheduling.v1.PriorityClass", "preemptionPolicy")),
];
pub(super) const PRIORITYLEVELCONFIGURATIONS: &[Column] = &[
    NAME,
    column("Type", of("flowcontrol.v1.PriorityLevelConfigurationSpec", "type")),
    column(
        "NominalConcurrencyShares",
        of("flowcontrol.v1.LimitedPriorityLevelConfiguration", "nominalConcurrencyShares"),
    ),
    column("Queues", of("flowcontrol.v1.QueuingConfiguration", "queues")),
    column("HandSize", of("flowcontrol.v1.QueuingConfiguration", "handSize")),
    column("QueueLengthLimit", of("flowcontrol.v1.QueuingConfiguration", "queueLengthLimit")),
    AGE,
];
pub(super) const REPLICASETS: &[Column] = &[
    NAME,
    column("Desired", of("apps.v1.ReplicaSetSpec", "replicas")).integer(),
    column("Current", of("apps.v1.ReplicaSetStatus", "replicas")).integer(),
    column("Ready", of("apps.v1.ReplicaSetStatus", "readyReplicas")).integer(),
    AGE,
    CONTAINERS,
    IMAGES,
    column(
        "Selector",
        Text(
            "Selector is a label query over pods that should match the replica count. If the selector is empty, it is defaulted to the labels present on the pod template. Label keys and values that must match in order to be controlled by this replica set. More info: https://kubernetes.io/docs/concepts/overview/working-with-objects/labels/#label-selectors",
        ),
    )
    .wide(),
];
pub(super) const REPLICATIONCONTROLLERS: &[Column] = &[
    NAME,
    column("Desired", of("core.v1.ReplicationControllerSpec", "replicas")).integer(),
    column("Current", of("core.v1.ReplicationControllerStatus", "replicas")).integer(),
    column("Ready", of("core.v1.ReplicationControllerStatus", "readyReplicas")).integer(),
    AGE,
    CONTAINERS,
    IMAGES,
    column("Selector", of("core.v1.ReplicationControllerSpec", "selector")).wide(),
];
pub(super) const RESOURCECLAIMS: &[Column] =
    &[NAME, column("State", Text("A summary of the current state (allocated, pending, reserved, etc.).")), AGE];
pub(super) const RESOURCEQUOTAS: &[Column] = &[
    NAME,
    column("Request", Text("Request represents a minimum amount of cpu/memory that a container may consume.")),
    column(
        "Limit",
        Text(
            "Limits control the maximum amount of cpu/memory that a container may use independent of contention on the node.",
        ),
    ),
    AGE,
];
pub(super) const RESOURCESLICES: &[Column] = &[
    NAME,
    column("Node", of("resource.v1.ResourceSliceSpec", "nodeName")),
    column("Driver", of("resource.v1.ResourceSliceSpec", "driver")),
    column("Pool", of("resource.v1.ResourcePool", "name")),
    AGE,
];
pub(super) const ROLEBINDINGS: &[Column] = &[
    NAME,
    column(
        "Role",
        Text(
            "RoleRef can reference a Role in the current namespace or a ClusterRole in the global namespace. If the RoleRef cannot be resolved, the Authorizer must return an error.",
        ),
    ),
    AGE,
    column("Users", Text("Users in the roleBinding")).wide(),
    column("Groups", Text("Groups in the roleBinding")).wide(),
    column("ServiceAccounts", Text("ServiceAccounts in the roleBinding")).wide(),
];
pub(super) const RUNTIMECLASSES: &[Column] = &[
    NAME, // The documentation that Kubernetes looks up for it has another name for the field.
    column("Handler", Text("")),
    AGE,
];
pub(super) const SECRETS: &[Column] =
    &[NAME, column("Type", of("core.v1.Secret", "type")), column("Data", of("core.v1.Secret", "data")), AGE];
pub(super) const SERVICECIDRS: &[Column] = &[NAME, column("CIDRs", of("networking.v1.ServiceCIDRSpec", "cidrs")), AGE];
pub(super) const SERVICES: &[Column] = &[
    NAME,
    column("Type", of("core.v1.ServiceSpec", "type")),
    column("Cluster-IP", of("core.v1.ServiceSpec", "clusterIP")),
    column("External-IP", of("core.v1.ServiceSpec", "externalIPs")),
    column("Port(s)", of("core.v1.ServiceSpec", "ports")),
    AGE,
    column("Selector", of("core.v1.ServiceSpec", "selector")).wide(),
];
pub(super) const STATEFULSETS: &[Column] =
    &[NAME, column("Ready", Text("Number of the pod with ready state")), AGE, CONTAINERS, IMAGES];
pub(super) const STORAGECLASSES: &[Column] = &[
    NAME,
    column("Provisioner", of("storage.v1.StorageClass", "provisioner")),
    column("ReclaimPolicy", of("storage.v1.StorageClass", "reclaimPolicy")),
    column("VolumeBindingMode", of("storage.v1.StorageClass", "volumeBindingMode")),
    column("AllowVolumeExpansion", of("storage.v1.StorageClass", "allowVolumeExpansion")),
    AGE,
];
pub(super) const VALIDATINGADMISSIONPOLICIES: &[Column] = &[
    NAME,
    column("Validations", Text("Validations indicates the number of validation rules defined in this configuration"))
        .integer(),
    column("ParamKind", Text("ParamKind specifies the kind of resources used to parameterize this policy")),
    AGE,
];
pub(super) const VALIDATINGADMISSIONPOLICYBINDINGS: &[Column] = &[
    NAME,
    column("PolicyName", Text("PolicyName indicates the policy definition which the policy binding binded to")),
    column("ParamRef", Text("ParamRef indicates the param resource which sets the configuration param")),
    AGE,
];
pub(super) const VALIDATINGWEBHOOKCONFIGURATIONS: &[Column] = &[
    NAME,
    column("Webhooks", Text("Webhooks indicates the number of webhooks registered in this configuration")).integer(),
    AGE,
];
pub(super) const VOLUMEATTACHMENTS: &[Column] = &[
    NAME,
    column("Attacher", of("storage.v1.VolumeAttachmentSpec", "attacher")).name(),
    column("PV", of("storage.v1.VolumeAttachmentSource", "persistentVolumeName")),
    column("Node", of("storage.v1.VolumeAttachmentSpec", "nodeName")),
    column("Attached", of("storage.v1.VolumeAttachmentStatus", "attached")).boolean(),
    AGE,
];
pub(super) const VOLUMEATTRIBUTESCLASSES: &[Column] =
    &[NAME, column("DriverName", of("storage.v1.VolumeAttributesClass", "driverName")), AGE];
