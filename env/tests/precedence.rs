//! Which of several sources decides, as a table.

use std::ffi::OsString;
use std::path::Path;

use k3s_env::Values;
use k3s_env::flag::Subcommand;

/// What is said where, and what comes of it.
struct Case {
    name: &'static str,
    args: &'static [&'static str],
    variables: &'static [(&'static str, &'static str)],
    /// `config.yaml`, then the files of `config.yaml.d` by name.
    files: &'static [(&'static str, &'static str)],
    /// Flag and values that hold.
    want: &'static [(&'static str, &'static [&'static str])],
}

const NONE: Case = Case { name: "", args: &[], variables: &[], files: &[], want: &[] };

const CASES: &[Case] = &[
    Case { name: "nothing is said", want: &[("node-name", &[]), ("tls-san", &[])], ..NONE },
    Case {
        name: "the file, if nothing else says it",
        files: &[("", "node-name: file\n")],
        want: &[("node-name", &["file"])],
        ..NONE
    },
    Case {
        name: "the environment before the file",
        variables: &[("K3S_NODE_NAME", "variable")],
        files: &[("", "node-name: file\n")],
        want: &[("node-name", &["variable"])],
        ..NONE
    },
    Case {
        name: "the command line before the environment",
        args: &["--node-name=line"],
        variables: &[("K3S_NODE_NAME", "variable")],
        files: &[("", "node-name: file\n")],
        want: &[("node-name", &["line"])],
    },
    Case {
        name: "an empty variable says nothing",
        variables: &[("K3S_NODE_NAME", "")],
        files: &[("", "node-name: file\n")],
        want: &[("node-name", &["file"])],
        ..NONE
    },
    Case {
        name: "each flag has its own source",
        args: &["--debug"],
        variables: &[("K3S_TOKEN", "secret")],
        files: &[("", "node-name: file\ndebug: false\n")],
        want: &[("debug", &["true"]), ("token", &["secret"]), ("node-name", &["file"])],
    },
    Case {
        name: "lists of two sources are not added up",
        args: &["--tls-san=a", "--tls-san=b"],
        files: &[("", "tls-san: [c, d]\n")],
        want: &[("tls-san", &["a", "b"])],
        ..NONE
    },
    Case {
        name: "not even with a plus sign",
        args: &["--tls-san=a"],
        files: &[("", "tls-san+: [c]\n")],
        want: &[("tls-san", &["a"])],
        ..NONE
    },
    Case {
        name: "commas separate the values of a list",
        args: &["--tls-san=a,b", "--tls-san", "c"],
        want: &[("tls-san", &["a", "b", "c"])],
        ..NONE
    },
    Case {
        name: "but not those of a component's flag",
        args: &["--kube-apiserver-arg=api-audiences=a,b"],
        want: &[("kube-apiserver-arg", &["api-audiences=a,b"])],
        ..NONE
    },
    Case {
        name: "files in the order of their names, not of their endings",
        files: &[
            ("", "node-name: first\n"),
            ("20-b.yml", "node-name: last\n"),
            ("10-a.yaml", "node-name: second\n"),
            ("30-c.yaml.off", "node-name: never\n"),
            ("30-c.txt", "node-name: never\n"),
        ],
        want: &[("node-name", &["last"])],
        ..NONE
    },
    Case {
        name: "a later file replaces, and adds with a plus sign",
        files: &[
            ("", "node-label: [a=1]\nnode-taint: [x=1:NoExecute]\ntoken: boop\n"),
            ("1.yaml", "node-label+: b=2\nwrite-kubeconfig-mode: 600\n"),
            ("2.yaml", "node-label+: [c=3]\nnode-taint: [y=2:NoSchedule]\nwrite-kubeconfig-mode: 777\n"),
        ],
        want: &[
            ("node-label", &["a=1", "b=2", "c=3"]),
            ("node-taint", &["y=2:NoSchedule"]),
            ("write-kubeconfig-mode", &["777"]),
            ("token", &["boop"]),
        ],
        ..NONE
    },
    Case {
        name: "without the plus sign what was added up is gone",
        files: &[("", "tls-san: a\n"), ("1.yaml", "tls-san+: b\n"), ("2.yaml", "tls-san: c\n")],
        want: &[("tls-san", &["c"])],
        ..NONE
    },
    Case {
        name: "the folder without the file",
        files: &[("1.yaml", "tls-san+: b\n")],
        want: &[("tls-san", &["b"])],
        ..NONE
    },
    Case {
        name: "a later file takes a value back",
        files: &[("", "node-name: a\n"), ("1.yaml", "node-name:\n")],
        want: &[("node-name", &[])],
        ..NONE
    },
    Case {
        name: "booleans in all their forms",
        args: &["--disable-scheduler=F"],
        variables: &[("K3S_DEBUG", "1")],
        files: &[("", "rootless: yes\ndisable-agent: \"true\"\n")],
        want: &[("disable-scheduler", &["F"]), ("debug", &["1"]), ("rootless", &["yes"]), ("disable-agent", &["true"])],
    },
    Case {
        name: "numbers are what is written",
        files: &[("", "https-listen-port: 6444\nv: 4\ntoken: 0123\ncluster-domain: \"1.5\"\n")],
        want: &[("https-listen-port", &["6444"]), ("v", &["4"]), ("token", &["0123"]), ("cluster-domain", &["1.5"])],
        ..NONE
    },
    Case {
        name: "letters and older names are keys, and one dash is enough",
        args: &["-node-name", "line", "-t=letter", "--v=4"],
        files: &[("", "o: /tmp/kubeconfig\nkube-controller-arg: [v=2]\n")],
        want: &[
            ("node-name", &["line"]),
            ("token", &["letter"]),
            ("v", &["4"]),
            ("write-kubeconfig", &["/tmp/kubeconfig"]),
            ("kube-controller-manager-arg", &["v=2"]),
        ],
        ..NONE
    },
    Case {
        name: "the last of several values that are no list",
        args: &["--node-name=a", "--node-name=b"],
        want: &[("node-name", &["a", "b"])],
        ..NONE
    },
];

#[test]
fn the_first_source_that_says_it_decides() {
    for case in CASES {
        let dir = tempfile::tempdir().expect("a folder");
        let config = write(dir.path(), case.files);
        let variable = |name: &str| case.variables.iter().find(|it| it.0 == name).map(|it| it.1.to_owned());
        let values = Values::resolve(Subcommand::Server, case.args.iter().map(OsString::from), variable, &config)
            .unwrap_or_else(|error| panic!("{}: {error}", case.name));
        for (flag, want) in case.want {
            assert_eq!(values.list(flag), *want, "{}: {flag}", case.name);
            assert_eq!(values.string(flag).as_deref(), want.last().copied(), "{}: {flag}", case.name);
        }
    }
}

#[test]
fn a_named_file_takes_the_place_of_the_default_one_and_must_be_there() {
    let dir = tempfile::tempdir().expect("a folder");
    let default = write(dir.path(), &[("", "node-name: default\n"), ("1.yaml", "tls-san: default\n")]);
    let other = dir.path().join("other.yaml");
    std::fs::write(&other, "token: other\n").expect("a file");
    let by_flag = OsString::from(format!("--config={}", other.display()));
    let by_variable = |name: &str| (name == "K3S_CONFIG_FILE").then(|| other.display().to_string());
    for values in [
        Values::resolve(Subcommand::Server, [by_flag], |_| None, &default),
        Values::resolve(Subcommand::Server, [], by_variable, &default),
        Values::resolve(Subcommand::Agent, [], by_variable, &default),
    ] {
        let values = values.expect("a configuration");
        assert_eq!(values.string("token").as_deref(), Some("other"));
        assert_eq!((values.string("node-name"), values.list("tls-san")), (None, vec![]));
    }
    let missing = Values::resolve(Subcommand::Server, ["--config=/nonexistent/a.yaml".into()], |_| None, &default);
    assert!(missing.expect_err("no file").to_string().contains("/nonexistent/a.yaml"));
    let remote = Values::resolve(Subcommand::Server, ["--config=https://example.org/a".into()], |_| None, &default);
    assert!(remote.expect_err("no file").to_string().contains("download it"));
}

/// Writes `config.yaml` and its folder; the path of the first.
fn write(dir: &Path, files: &[(&str, &str)]) -> std::path::PathBuf {
    let config = dir.join("config.yaml");
    for (name, text) in files {
        let path = if name.is_empty() { config.clone() } else { dir.join("config.yaml.d").join(name) };
        std::fs::create_dir_all(path.parent().expect("a parent")).expect("a folder");
        std::fs::write(path, text).expect("a file");
    }
    config
}
