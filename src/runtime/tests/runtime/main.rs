//! The runtime against real images, namespaces and processes: as root, and as an ordinary user in a user namespace.
//!
//! `cargo test -p k3s-runtime --test runtime [part of a name]`

mod archive;
mod builtin;
mod bundle;
mod classes;
mod cri;
mod escape;
mod exec;
mod hostile;
mod image_volumes;
mod images;
mod lifecycle;
mod node;
mod oci;
mod pull;
mod recovery;
mod registry;
mod security;
mod served;
mod snapshotters;
mod soak;
mod streams;
mod target;
mod tools;
mod users;

use std::panic::AssertUnwindSafe;
use std::process::{Command, ExitCode};

use futures::FutureExt;
use futures::future::BoxFuture;

/// A test: its name and what it does.
type Test = (&'static str, fn() -> BoxFuture<'static, ()>);

macro_rules! tests {
    ($($module:ident :: $name:ident),* $(,)?) => {
        &[$((concat!(stringify!($module), "::", stringify!($name)), || $module::$name().boxed())),*]
    };
}

const TESTS: &[Test] = tests![
    images::both_kinds_of_archive_are_imported_by_their_full_names,
    images::a_damaged_archive_is_reported_and_the_others_go_on,
    images::an_archive_that_appears_is_imported,
    images::removing_an_image_gives_its_space_back,
    images::images_go_out_and_come_back_in,
    images::native_snapshots_are_copies,
    images::images_of_the_directory_are_pinned,
    pull::layers_of_every_compression_arrive,
    pull::the_index_of_a_tag_is_what_the_image_is_called_by,
    pull::a_bearer_token_is_fetched_with_the_credentials,
    pull::a_broken_download_goes_on_where_it_broke,
    pull::damage_and_strangers_are_refused_and_leave_nothing,
    pull::a_full_disk_fails_the_pull_and_its_space_comes_back,
    pull::many_who_ask_are_served_by_one_pull,
    pull::mirrors_are_asked_in_order_and_the_registry_last,
    pull::lists_of_images_are_pulled,
    pull::debians_registry_with_and_without_tls_and_passwords,
    cri::a_client_makes_a_pod_and_takes_it_away,
    cri::a_client_works_with_images,
    cri::what_can_not_be_done_has_the_code_that_clients_expect,
    cri::every_call_of_the_definition_is_answered,
    streams::a_command_has_its_streams_over_spdy,
    streams::a_command_has_its_streams_over_a_websocket,
    streams::a_terminal_is_resized,
    streams::attach_gives_input_and_sees_output,
    streams::ports_are_forwarded,
    streams::a_url_is_good_for_one_connection,
    streams::what_makes_no_sense_gets_no_url,
    tools::pods_and_containers_are_made_and_shown,
    tools::commands_are_run_in_containers,
    tools::ports_are_forwarded,
    tools::images_go_out_and_in_with_ctr,
    tools::the_runtime_is_found,
    hostile::no_entry_of_a_layer_leads_out_of_it,
    hostile::whiteouts_hide_what_lower_layers_have,
    hostile::archives_that_ask_for_too_much_are_refused_and_leave_nothing,
    escape::no_open_descriptor_is_a_working_directory,
    escape::a_mount_does_not_follow_a_link_that_appears,
    escape::proc_is_no_link_of_the_image,
    escape::the_runtimes_binary_is_not_written,
    escape::masked_paths_are_not_uncovered,
    snapshotters::layers_are_laid_over_one_another_in_every_way,
    snapshotters::a_served_root_lives_as_long_as_its_container,
    snapshotters::a_container_ends_with_what_serves_its_root,
    snapshotters::where_the_kernel_mounts_no_overlay_the_program_does,
    builtin::the_binary_is_there_and_cannot_be_written,
    lifecycle::a_container_runs_logs_and_exits_with_its_code,
    lifecycle::stop_sends_the_signal_and_kills_after_the_grace,
    lifecycle::a_container_gets_its_mounts_user_and_environment,
    lifecycle::what_cannot_start_says_why,
    lifecycle::containers_of_a_pod_share_what_they_should,
    lifecycle::logs_are_reopened_after_rotation,
    lifecycle::no_line_is_lost_while_logs_are_rotated,
    lifecycle::pods_on_the_host_namespaces_run,
    lifecycle::nothing_is_left_after_removal,
    exec::commands_run_with_output_and_exit_codes,
    exec::a_command_that_takes_too_long_is_killed,
    exec::streams_and_terminals_are_connected,
    exec::attach_sees_output_and_gives_input,
    exec::port_forward_reaches_the_pods_loopback,
    security::the_default_container_has_containerds_rights,
    security::privileged_containers_have_all_rights,
    security::groups_of_the_image_count_unless_they_are_not_to,
    security::what_is_mounted_below_a_volume_is_read_only_where_that_is_asked_for,
    security::an_apparmor_profile_is_refused_with_the_reason_where_there_is_no_apparmor,
    users::files_of_the_nodes_root_are_the_pods_roots,
    users::processes_are_strangers_to_the_node_and_rights_end_at_the_pod,
    users::a_new_runtime_takes_them_up,
    users::what_does_not_go_together_is_refused,
    users::a_file_system_that_maps_no_ids_is_named,
    target::a_container_sees_the_processes_of_its_target,
    target::only_a_running_container_of_the_pod_is_a_target,
    image_volumes::an_image_is_seen_whole_and_in_parts,
    image_volumes::no_path_leads_out_of_the_image,
    image_volumes::an_image_stays_as_long_as_it_is_somebodys_volume,
    recovery::a_new_runtime_takes_up_running_containers,
    recovery::exits_and_logs_of_the_time_between_are_kept,
    recovery::a_killed_shim_takes_its_containers_with_it,
    recovery::what_no_one_owns_is_cleared,
    recovery::containers_live_in_their_cgroups_where_there_are_some,
    oci::a_bundle_goes_through_its_states,
    oci::a_container_that_was_created_can_be_killed_and_deleted,
    oci::containers_of_one_name_do_not_share_a_cgroup,
    oci::a_bundle_gets_what_its_configuration_says,
    oci::hooks_run_when_and_where_they_should,
    oci::a_hook_that_fails_leaves_nothing,
    oci::what_makes_no_sense_is_refused,
    oci::commands_run_in_a_container,
    oci::a_terminal_goes_to_the_console_socket,
    oci::a_create_that_is_killed_leaves_nothing_that_runs,
    oci::namespaces_are_joined_by_their_paths,
    oci::a_bundle_has_a_user_namespace_of_its_own,
    classes::an_unknown_handler_is_refused,
    classes::containers_run_log_and_exit_as_by_the_executor,
    classes::commands_terminals_signals_and_usage_work,
    classes::a_pods_containers_share_its_namespaces,
    classes::a_new_runtime_takes_them_up,
    soak::containers_come_and_go_and_nothing_is_left,
    recovery::starting_takes_little_time_and_memory,
];

fn main() -> ExitCode {
    let mut args = std::env::args_os().skip(1);
    let first = args.next();
    if first.as_deref() == Some("shim".as_ref()) {
        k3s_runtime::shim::main(args);
    }
    if first.as_deref() == Some("oci".as_ref()) {
        return k3s_runtime::oci::main(args);
    }
    if first.as_deref() == Some("write-to-self".as_ref()) {
        return builtin::write_to_self();
    }
    if first.as_deref() == Some("serve".as_ref()) {
        return soak::serve(args.next().unwrap_or_default().as_ref());
    }
    if first.as_deref() == Some("overwrite-exe".as_ref()) {
        return escape::overwrite_exe();
    }
    match first.as_deref().and_then(std::ffi::OsStr::to_str) {
        Some("crictl") => return on_one_thread(k3s_cri_tools::crictl(args.collect())),
        Some("ctr") => return on_one_thread(k3s_cri_tools::ctr(args.collect())),
        _ => {}
    }
    let args: Vec<String> = first.into_iter().chain(args).filter_map(|arg| arg.into_string().ok()).collect();
    let has = |flag: &str| args.iter().any(|arg| arg == flag);
    if has("--list") {
        // As cargo-nextest asks; it asks again for ignored tests, of which there are none.
        TESTS.iter().filter(|_| !has("--ignored")).for_each(|(name, _)| println!("{name}: test"));
        return ExitCode::SUCCESS;
    }
    let name = args.iter().find(|arg| !arg.starts_with('-')).cloned();
    let filter = Filter { name, exact: has("--exact") };
    let mut failed = 0;
    if is_root() {
        failed += run(&filter);
        if std::env::var_os("IN_USER_NAMESPACE").is_none() {
            failed += rootless(&filter);
        }
    } else {
        failed += rootless(&filter);
    }
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// As the product runs its tools.
fn on_one_thread(tool: impl Future<Output = ExitCode>) -> ExitCode {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a tokio runtime");
    let code = runtime.block_on(tool);
    runtime.shutdown_background();
    code
}

/// Which tests to run: all, those with `name` in theirs, or exactly that one.
struct Filter {
    name: Option<String>,
    exact: bool,
}

impl Filter {
    fn takes(&self, test: &str) -> bool {
        self.name.as_deref().is_none_or(|name| if self.exact { test == name } else { test.contains(name) })
    }
}

fn is_root() -> bool {
    nix::unistd::geteuid().is_root()
}

fn run(filter: &Filter) -> usize {
    let mode = if node::is_rootless() { "user namespace" } else { "root" };
    let runtime = match tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => panic!("no tokio runtime: {error}"),
    };
    let mut failed = 0;
    for (name, test) in TESTS.iter().filter(|(name, _)| filter.takes(name)) {
        let began = std::time::Instant::now();
        // A long soak takes as long as it takes.
        let minutes = if std::env::var_os("K3S_SOAK").is_some() { 24 * 60 } else { 1 };
        let limit = std::time::Duration::from_secs(60 * minutes);
        let outcome =
            runtime.block_on(AssertUnwindSafe(async { tokio::time::timeout(limit, test()).await }).catch_unwind());
        let passed = matches!(outcome, Ok(Ok(())));
        failed += usize::from(!passed);
        let verdict = match outcome {
            Ok(Ok(())) => "ok",
            Ok(Err(_)) => "TIMED OUT",
            Err(_) => "FAILED",
        };
        println!("test {name} ({mode}) ... {verdict} [{} ms]", began.elapsed().as_millis());
    }
    failed
}

/// The ordinary user in whose user namespace the tests run again where root runs them; `tests/run` makes it, with
/// sub-ids.
const USER: &str = "k3s-tests";

/// Runs everything again in a user namespace.
fn rootless(filter: &Filter) -> usize {
    let owner =
        if is_root() { nix::unistd::User::from_name(USER) } else { nix::unistd::User::from_uid(nix::unistd::getuid()) };
    let Ok(Some(owner)) = owner else {
        println!("test of user namespaces ... FAILED: there is no user {USER}; ./tests/run makes it");
        return 1;
    };
    let directory = tempfile::tempdir().expect("temporary directory");
    std::fs::set_permissions(directory.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).expect("chmod");
    let binary = directory.path().join("runtime-test");
    std::fs::copy(std::env::current_exe().expect("own path"), &binary).expect("copy of the test");
    // Its owner in the namespace is root, as of an ordinary installation: nothing but the mount protects it.
    std::os::unix::fs::chown(&binary, Some(owner.uid.as_raw()), Some(owner.gid.as_raw())).expect("chown");
    let inside = format!(
        "IN_USER_NAMESPACE=1 TMPDIR=/tmp unshare --user --map-root-user --map-auto --mount --pid --fork --kill-child \
         --mount-proc --propagation private sh -c '\"$0\" \"$@\"; exit $?' {} {} {}",
        binary.display(),
        filter.name.as_deref().unwrap_or_default(),
        if filter.exact { "--exact" } else { "" }
    );
    let mut command = if is_root() { Command::new("su") } else { Command::new("sh") };
    if is_root() {
        command.arg(USER);
    }
    let status = command.arg("-c").arg(inside).current_dir("/").status().expect("start of the user namespace");
    usize::from(!status.success())
}
