//! What configuration files mean, and what is said about files that mean nothing.

mod emulator;

use std::{collections::HashMap, time::Duration};

use lockstep_model::{QueueDescription, Right};
use tempfile::TempDir;

use super::*;

/// Files in a directory of their own, and options that name them.
struct Fixture {
    directory: TempDir,
    options: LoadOptions,
    environment: HashMap<String, String>,
}

impl Fixture {
    fn new() -> Self {
        Self {
            directory: TempDir::new().unwrap(),
            options: LoadOptions { data_dir: Some("/data".into()), ..LoadOptions::default() },
            environment: HashMap::new(),
        }
    }

    fn toml(text: &str) -> Self {
        let mut fixture = Self::new();
        fixture.options.config = Some(fixture.write("lockstep.toml", text));
        fixture
    }

    fn emulator(text: &str) -> Self {
        let mut fixture = Self::new();
        fixture.options.emulator_config = Some(fixture.write("Config.json", text));
        fixture
    }

    fn and_emulator(mut self, text: &str) -> Self {
        self.options.emulator_config = Some(self.write("Config.json", text));
        self
    }

    fn dev(mut self) -> Self {
        self.options.dev = true;
        self
    }

    fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.directory.path().join(name);
        fs::write(&path, text).unwrap();
        path
    }

    fn try_load(&self) -> Result<ResolvedConfig, ConfigError> {
        load_with(&self.options, &|name| self.environment.get(name).cloned())
    }

    fn load(&self) -> ResolvedConfig {
        self.try_load().unwrap()
    }

    /// The problems as `file:line: text`, without the directory.
    fn problems(&self) -> Vec<String> {
        let error = self.try_load().expect_err("the configuration has a problem");
        error
            .problems
            .iter()
            .map(|problem| self.short(&format!("{}: {}", problem.origin, problem.text)))
            .collect()
    }

    fn the_problem(&self) -> String {
        let mut problems = self.problems();
        assert_eq!(problems.len(), 1, "{problems:?}");
        problems.remove(0)
    }

    fn warnings(&self) -> Vec<String> {
        self.load().warnings.iter().map(|warning| self.short(warning)).collect()
    }

    fn short(&self, text: &str) -> String {
        text.replace(&format!("{}/", self.directory.path().display()), "")
    }
}

const POLICY: &str = "[[namespace.policy]]\nname = \"p\"\nprimary_key = \"k\"\nrights = [\"Send\"]\n";

/// A namespace with a policy and one queue that has these keys; the queue's keys begin in line 8.
fn queue_with(keys: &str) -> Fixture {
    Fixture::toml(&format!(
        "[[namespace]]\nname = \"ns\"\n{POLICY}[[namespace.queue]]\nname = \"q\"\n{keys}\n"
    ))
}

fn first_queue(config: &ResolvedConfig) -> &QueueDescription {
    &config.namespaces[0].queues[0].description
}

#[test]
fn the_file_of_the_manual_is_understood_in_full() {
    let fixture = Fixture::toml(
        r#"
[[namespace]]
name = "sbtest"
host_names = ["SBtest.servicebus.windows.net"]
[[namespace.policy]]
name = "RootManageSharedAccessKey"
primary_key = "one"
secondary_key = "two"
rights = ["Manage"]
[[namespace.queue]]
name = "orders"
requires_session = true
lock_duration_s = 7.5
max_delivery_count = 3
max_message_size_bytes = 2048
auto_renew_while_link_open = true
[[namespace.queue.policy]]
name = "reader"
primary_key = "three"
rights = ["Listen"]
"#,
    );
    let config = fixture.load();
    let namespace = &config.namespaces[0];
    assert_eq!(namespace.name, "sbtest");
    assert_eq!(namespace.host_names, ["sbtest.servicebus.windows.net"]);
    assert_eq!(namespace.policies[0].rights, [Right::Send, Right::Listen, Right::Manage]);
    assert_eq!(namespace.policies[0].secondary_key.as_ref().map(Secret::expose), Some("two"));
    assert_eq!(namespace.policies[1].scope.as_ref().map(|name| name.as_str()), Some("orders"));
    let queue = &namespace.queues[0];
    assert!(queue.description.requires_session);
    assert_eq!(queue.description.lock_duration, Duration::from_millis(7500));
    assert_eq!(queue.description.max_delivery_count, 3);
    assert_eq!(queue.description.max_message_size_bytes, 2048);
    assert!(queue.description.auto_renew_while_link_open);
    assert_eq!(fixture.short(&queue.origin.to_string()), "lockstep.toml:11");
    assert_eq!(fixture.short(&queue.requires_session_origin.to_string()), "lockstep.toml:12");
    assert!(config.warnings.is_empty(), "{:?}", config.warnings);
}

#[test]
fn an_unknown_key_is_refused_with_line_and_suggestion() {
    for (wrong, right) in [
        ("requiresSession = true", "requires_session"),
        ("lock_duration = 60", "lock_duration_s"),
        ("max_delivery_counts = 3", "max_delivery_count"),
    ] {
        let problem = queue_with(wrong).the_problem();
        assert!(problem.starts_with("lockstep.toml:9: unknown key "), "{problem}");
        assert!(problem.ends_with(&format!("did you mean \"{right}\"?")), "{problem}");
    }
}

#[test]
fn an_unlike_unknown_key_is_refused_with_the_list_of_keys() {
    let problem = queue_with("zzz = 1").the_problem();
    assert!(problem.contains("lockstep.toml:9: unknown key \"zzz\" in [[namespace.queue]]"), "{problem}");
    assert!(problem.contains("it may hold name, requires_session, lock_duration_s"), "{problem}");
}

#[test]
fn values_outside_their_bounds_are_refused_with_line_and_bounds() {
    for (keys, expected) in [
        ("lock_duration_s = 4.9", "lock_duration_s must be between 5 and 300 seconds, not 4.9"),
        ("lock_duration_s = 301", "lock_duration_s must be between 5 and 300 seconds, not 301"),
        (
            "lock_duration_s = -1",
            "lock_duration_s must be a number of seconds from 0, such as 60 or 0.5, not -1",
        ),
        (
            "lock_duration_s = \"60\"",
            "lock_duration_s must be a number of seconds from 0, such as 60 or 0.5, not text",
        ),
        ("max_delivery_count = 0", "max_delivery_count must be between 1 and 2147483647, not 0"),
        ("max_message_size_bytes = 1", "max_message_size_bytes must be between 1024 and 104857600, not 1"),
        ("requires_session = 1", "requires_session must be true or false, not 1"),
    ] {
        assert_eq!(queue_with(keys).the_problem(), format!("lockstep.toml:9: {expected}"));
    }
}

#[test]
fn a_broken_file_is_refused_with_its_line() {
    let problem = Fixture::toml("[[namespace]]\nname = \n").the_problem();
    assert!(problem.starts_with("lockstep.toml:2: "), "{problem}");
    let problem = Fixture::emulator("{\n  \"UserConfig\": {\n    ]\n}").the_problem();
    assert!(problem.starts_with("Config.json:3: "), "{problem}");
}

#[test]
fn a_file_that_is_not_there_is_named() {
    let mut fixture = Fixture::new();
    fixture.options.config = Some(fixture.directory.path().join("absent.toml"));
    assert!(fixture.the_problem().starts_with("absent.toml: cannot read the file: "));
}

#[test]
fn all_problems_are_shown_at_once_in_order() {
    let fixture = Fixture::toml(&format!(
        "lissten = []\n[[namespace]]\nname = \"ns\"\n{POLICY}[[namespace.queue]]\nname = \"q\"\nlock_duration_s = 1\n"
    ));
    let problems = fixture.problems();
    assert_eq!(problems.len(), 2, "{problems:?}");
    assert!(problems[0].starts_with("lockstep.toml:1: "), "{problems:?}");
    assert!(problems[1].starts_with("lockstep.toml:10: "), "{problems:?}");
}

#[test]
fn duplicates_are_refused_with_both_lines_whatever_their_letter_case() {
    let fixture = queue_with("[[namespace.queue]]\nname = \"Q\"");
    let problem = fixture.the_problem();
    assert!(problem.starts_with("lockstep.toml:10: entity \"Q\" stands twice"), "{problem}");
    assert!(problem.contains("lockstep.toml:8 "), "{problem}");

    let fixture = queue_with("[[namespace]]\nname = \"NS\"");
    assert_eq!(
        fixture.the_problem(),
        "lockstep.toml:10: namespace \"NS\" stands twice, first in lockstep.toml:2"
    );

    let fixture = queue_with(POLICY);
    assert_eq!(
        fixture.the_problem(),
        "lockstep.toml:10: policy \"p\" stands twice, first in lockstep.toml:4"
    );
}

#[test]
fn one_host_name_means_one_namespace() {
    let fixture = Fixture::toml(
        "[[namespace]]\nname = \"a\"\nhost_names = [\"h\"]\n[[namespace]]\nname = \"b\"\nhost_names = [\n\"H\"]\n",
    );
    assert_eq!(
        fixture.the_problem(),
        "lockstep.toml:7: host name \"h\" already means namespace \"a\", by lockstep.toml:3"
    );
}

#[test]
fn host_names_with_scheme_or_port_are_refused() {
    for host in ["sb://h", "h:5671", ""] {
        let fixture = Fixture::toml(&format!("[[namespace]]\nname = \"a\"\nhost_names = [\"{host}\"]\n"));
        let problem = fixture.the_problem();
        assert!(problem.contains("is no host name; write it without scheme and port"), "{problem}");
    }
}

#[test]
fn a_table_without_a_name_is_refused() {
    assert_eq!(
        Fixture::toml("\n[[namespace]]\n[[namespace.queue]]\n").problems(),
        [
            "lockstep.toml:2: [[namespace]] needs \"name\"",
            "lockstep.toml:3: [[namespace.queue]] needs \"name\""
        ]
    );
}

#[test]
fn a_header_with_one_bracket_is_explained() {
    let problem =
        Fixture::toml("[[namespace]]\nname = \"a\"\n[namespace.queue]\nname = \"q\"\n").the_problem();
    assert!(problem.ends_with("write its header with two brackets, [[namespace.queue]]"), "{problem}");
}

#[test]
fn keys_come_from_files_and_the_environment_too() {
    let mut fixture = Fixture::toml(
        r#"
[[namespace]]
name = "ns"
[[namespace.policy]]
name = "p"
primary_key_file = "key.txt"
secondary_key_env = "SECOND"
rights = ["Send"]
"#,
    );
    fixture.write("key.txt", "from file\n");
    fixture.environment.insert("SECOND".into(), "from environment".into());
    let policy = fixture.load().namespaces.remove(0).policies.remove(0);
    assert_eq!(policy.primary_key.expose(), "from file");
    assert_eq!(policy.secondary_key.as_ref().map(Secret::expose), Some("from environment"));
    assert!(!format!("{policy:?}").contains("from"), "keys must not show in logs");
}

#[test]
fn policies_without_a_usable_key_or_right_are_refused_with_line() {
    let policy = |keys: &str| {
        Fixture::toml(&format!("[[namespace]]\nname = \"a\"\n[[namespace.policy]]\nname = \"p\"\n{keys}\n"))
    };
    let rights = "rights = [\"Send\"]";
    for (keys, expected) in [
        (rights.to_owned(), "lockstep.toml:4: policy \"p\" has no key"),
        (format!("{rights}\nprimary_key = \"\""), "lockstep.toml:6: the key is empty"),
        (
            format!("{rights}\nprimary_key_env = \"NO\""),
            "lockstep.toml:6: the environment variable NO is not set",
        ),
        (format!("{rights}\nprimary_key_file = \"no\""), "lockstep.toml:6: cannot read the key file no: "),
        (format!("{rights}\nprimary_key = \"a\"\nprimary_key_env = \"b\""), "lockstep.toml:7: primary_key, "),
        ("primary_key = \"k\"".to_owned(), "lockstep.toml:3: [[namespace.policy]] needs rights"),
        ("primary_key = \"k\"\nrights = []".to_owned(), "lockstep.toml:6: [[namespace.policy]] needs rights"),
        (
            "primary_key = \"k\"\nrights = [\"listen\"]".to_owned(),
            "lockstep.toml:6: unknown right \"listen\"; did you mean \"Listen\"?",
        ),
    ] {
        let problem = policy(&keys).the_problem();
        assert!(problem.starts_with(expected), "{problem}");
    }
}

#[test]
fn a_namespace_without_a_policy_is_warned_about() {
    let warnings = Fixture::toml("[[namespace]]\nname = \"a\"\n").warnings();
    assert_eq!(warnings.len(), 1);
    assert!(warnings[0].starts_with("lockstep.toml:2: namespace \"a\" has no policy"), "{warnings:?}");
}

#[test]
fn what_a_later_version_brings_gives_one_warning_each() {
    let fixture = queue_with(
        "forward_to = \"x\"\nforward_dead_lettered_messages_to = \"\"\n[[namespace.topic]]\nname = \"t\"",
    );
    let warnings = fixture.warnings();
    assert_eq!(
        warnings,
        [
            "lockstep.toml:9: forward_to of queue \"q\" is left out: it comes in a later version",
            "lockstep.toml:11: topic \"t\" is left out: topics and subscriptions come in a later version",
        ]
    );
    assert_eq!(fixture.load().namespaces[0].topics_left_out, ["t"]);
}

#[test]
fn without_configuration_nothing_starts_and_no_credential_exists() {
    let mut fixture = Fixture::new();
    assert!(fixture.the_problem().starts_with("lockstep serve: no configuration: give --config"));
    fixture.options.config = Some(fixture.write("lockstep.toml", "log_format = \"json\"\n"));
    assert!(fixture.the_problem().starts_with("lockstep.toml:1: no namespace is configured"));
    assert!(queue_with("").load().namespaces[0].policies.iter().all(|policy| policy.name != DEV_POLICY));
}

#[test]
fn dev_alone_has_the_emulators_namespace_and_credential_and_a_sample_queue() {
    let config = Fixture::new().dev().load();
    let namespace = &config.namespaces[0];
    assert_eq!(namespace.name, DEV_NAMESPACE);
    assert_eq!(namespace.policies, [dev_policy()]);
    assert!(first_queue(&config).requires_session);
    assert_eq!(config.tls, Some(TlsConfig::SelfMade));
    assert_eq!(config.message_session_on_connection_loss, OnConnectionLoss::Release);
    let ports: Vec<u16> =
        config.listen.iter().filter(|listen| !listen.optional).map(|listen| listen.address.port()).collect();
    assert_eq!(ports, [5672, 5671, 5300]);
    assert!(config.listen.iter().all(|listen| listen.address.ip().is_loopback()));
}

#[test]
fn dev_adds_the_credential_to_configured_namespaces_and_nothing_else() {
    let config = queue_with("").dev().load();
    assert_eq!(config.namespaces[0].queues.len(), 1);
    assert_eq!(config.namespaces[0].policies.last(), Some(&dev_policy()));
}

#[test]
fn dev_listens_elsewhere_only_when_told_so() {
    let mut fixture = Fixture::new().dev();
    fixture.options.listen = vec!["0.0.0.0:5672".into()];
    assert!(fixture.the_problem().contains("add --dev-allow-remote"));
    fixture.options.dev_allow_remote = true;
    assert_eq!(fixture.load().listen.len(), 1);
}

#[test]
fn listeners_default_to_loopback_and_with_a_certificate_to_amqps_everywhere() {
    let mut fixture = queue_with("");
    let required = |fixture: &Fixture| -> Vec<String> {
        let listen = fixture.load().listen;
        listen.iter().filter(|listen| !listen.optional).map(|listen| listen.address.to_string()).collect()
    };
    assert_eq!(required(&fixture), ["127.0.0.1:5672"]);
    fixture.options.certificate_file = Some("c.pem".into());
    fixture.options.key_file = Some("k.pem".into());
    assert_eq!(required(&fixture), ["127.0.0.1:5672", "0.0.0.0:5671"]);
    fixture.options.listen = vec!["[::1]:1".into(), "localhost:2".into()];
    assert_eq!(required(&fixture), ["[::1]:1", "127.0.0.1:2"]);
}

#[test]
fn listen_addresses_that_are_none_are_refused() {
    let fixture = Fixture::toml("listen = [\n\"example\"]\n[[namespace]]\nname = \"a\"\n");
    let problem = fixture.the_problem();
    assert!(problem.starts_with("lockstep.toml:2: \"example\" is no address to listen on"), "{problem}");
}

#[test]
fn a_certificate_needs_its_key() {
    let fixture = Fixture::toml("[tls]\ncertificate_file = \"c\"\n[[namespace]]\nname = \"a\"\n");
    assert_eq!(fixture.the_problem(), "lockstep.toml:1: [tls] needs key_file besides certificate_file");
    let mut fixture = queue_with("");
    fixture.options.certificate_file = Some("c.pem".into());
    assert_eq!(fixture.the_problem(), "--cert: needs --key beside it");
}

#[test]
fn certificate_and_data_paths_are_relative_to_their_file() {
    let mut fixture = Fixture::toml(
        "data_dir = \"data\"\n[tls]\ncertificate_file = \"c\"\nkey_file = \"/k\"\n[[namespace]]\nname = \"a\"\n",
    );
    fixture.options.data_dir = None;
    let config = fixture.load();
    let directory = fixture.directory.path();
    assert_eq!(config.data_dir, directory.join("data"));
    let expected = TlsConfig::Files { certificate_file: directory.join("c"), key_file: "/k".into() };
    assert_eq!(config.tls, Some(expected));
}

#[test]
fn settings_outside_their_choices_are_refused() {
    for (setting, expected) in [
        ("log_format = \"xml\"", "log_format must be \"text\" or \"json\", not \"xml\""),
        (
            "message_session_on_connection_loss = \"keep\"",
            "message_session_on_connection_loss must be \"hold\" or \"release\", not \"keep\"",
        ),
    ] {
        let fixture = Fixture::toml(&format!("{setting}\n[[namespace]]\nname = \"a\"\n"));
        assert_eq!(fixture.the_problem(), format!("lockstep.toml:1: {expected}"));
    }
    let fixture = Fixture::toml(
        "[limits]\nidle_timeout_s = 1\nconnections_count_max = 0\n[[namespace]]\nname = \"a\"\n",
    );
    assert_eq!(
        fixture.problems(),
        [
            "lockstep.toml:2: idle_timeout_s must be between 10 and 3600 seconds, not 1",
            "lockstep.toml:3: connections_count_max must be between 1 and 1000000, not 0",
        ]
    );
}

const CERTIFICATE: &str =
    "[[namespace]]\nname = \"ns\"\n[[namespace.client_certificate]]\nrights = [\"Send\"]\n";

#[test]
fn client_certificates_get_rights_in_a_namespace_or_on_a_queue() {
    let mut fixture = Fixture::toml(
        r#"
[tls]
certificate_file = "c"
key_file = "k"
client_ca = "ca.pem"
[[namespace]]
name = "ns"
[[namespace.client_certificate]]
subject = "CN=worker, O=Acme"
rights = ["Manage"]
[[namespace.queue]]
name = "q"
[[namespace.queue.client_certificate]]
san = "spiffe://acme/worker"
rights = ["Listen"]
"#,
    );
    let config = fixture.load();
    assert!(config.warnings.is_empty(), "{:?}", config.warnings);
    assert_eq!(config.client_ca_file, Some(fixture.directory.path().join("ca.pem")));
    let [all, of_queue] = &config.namespaces[0].client_certificates[..] else { panic!("two certificates") };
    assert_eq!(all.name, CertificateName::Subject(DistinguishedName::parse("CN=worker,O=Acme").unwrap()));
    assert_eq!((&all.rights[..], &all.scope), (&[Right::Send, Right::Listen, Right::Manage][..], &None));
    assert_eq!(of_queue.name, CertificateName::AlternativeName("spiffe://acme/worker".into()));
    assert_eq!(of_queue.scope.as_ref().map(|name| name.as_str()), Some("q"));
    fixture.options.client_ca_file = Some("/other.pem".into());
    assert_eq!(fixture.load().client_ca_file, Some("/other.pem".into()));
}

#[test]
fn what_is_wrong_with_client_certificates_is_named() {
    let problem = |text: &str| Fixture::toml(&format!("{CERTIFICATE}{text}\n")).the_problem();
    let either = "[[namespace.client_certificate]] needs either subject or san";
    assert_eq!(problem(""), format!("lockstep.toml:3: {either}"));
    assert_eq!(problem("subject = \"CN=a\"\nsan = \"a\""), format!("lockstep.toml:3: {either}"));
    assert_eq!(
        problem("subject = \"worker\""),
        "lockstep.toml:5: subject must be a distinguished name such as \"CN=worker,O=Acme\"; it has a part \
         without '='"
    );
    let twice = "san = \"a\"\n[[namespace.client_certificate]]\nsan = \"a\"\nrights = [\"Listen\"]";
    assert_eq!(problem(twice), "lockstep.toml:7: this client certificate stands twice");
    let unused = Fixture::toml(&format!("{CERTIFICATE}san = \"a\"\n")).warnings();
    assert!(unused.len() == 1 && unused[0].contains("none are asked for"), "{unused:?}");
    let without_tls = format!("[tls]\nclient_ca = \"ca.pem\"\n{CERTIFICATE}san = \"a\"\n");
    let without_tls = Fixture::toml(&without_tls).the_problem();
    assert!(without_tls.contains("client certificates need TLS"), "{without_tls}");
}

#[test]
fn data_goes_where_the_system_or_the_user_keeps_it() {
    let environment = |name: &str| (name == "HOME").then(|| "/home/u".to_owned());
    assert_eq!(default_data_dir(true, &environment), Path::new("/var/lib/lockstep"));
    assert_eq!(default_data_dir(false, &environment), Path::new("/home/u/.local/share/lockstep"));
    let environment = |name: &str| (name == "XDG_DATA_HOME").then(|| "/data/u".to_owned());
    assert_eq!(default_data_dir(false, &environment), Path::new("/data/u/lockstep"));
}

#[test]
fn the_reference_states_the_defaults_that_hold() {
    let reference = reference_markdown();
    let config = queue_with("").load();
    let queue = first_queue(&config);
    for expected in [
        format!(
            "| `lock_duration_s` | a number of seconds from 0, such as 60 or 0.5 | `{}` |",
            queue.lock_duration.as_secs()
        ),
        format!("| `max_delivery_count` | a whole number from 0 | `{}` |", queue.max_delivery_count),
        format!("| `max_message_size_bytes` | a whole number from 0 | `{}` |", queue.max_message_size_bytes),
        format!(
            "| `connections_count_max` | a whole number from 0 | `{}` |",
            config.limits.connections_count_max
        ),
        format!(
            "| `idle_timeout_s` | a number of seconds from 0, such as 60 or 0.5 | `{}` |",
            config.limits.idle_timeout.as_secs()
        ),
        format!(
            "| `unread_timeout_s` | a number of seconds from 0, such as 60 or 0.5 | `{}` |",
            config.limits.unread_timeout.as_secs()
        ),
        format!("| `memory_bytes_max` | a whole number from 0 | `{}` |", config.limits.memory_bytes_max),
    ] {
        assert!(reference.contains(&expected), "{expected}");
    }
}

/// The reference in `docs/configuration.md` is what the readers accept. `cargo xtask docs` writes
/// it anew: it runs this test with `LOCKSTEP_UPDATE_DOCS`.
#[test]
fn generated_document_is_current() {
    const BEGIN: &str = ": begin -->\n";
    const END: &str = "<!-- end -->";
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/configuration.md");
    let text = fs::read_to_string(&file).unwrap();
    let (before, rest) = text.split_once(BEGIN).expect("the mark before the generated part");
    let (_, after) = rest.split_once(END).expect("the mark after the generated part");
    let current = format!("{before}{BEGIN}{}{END}{after}", reference_markdown());
    if env::var_os("LOCKSTEP_UPDATE_DOCS").is_some() {
        fs::write(&file, current).unwrap();
    } else {
        assert!(text == current, "docs/configuration.md is out of date: run `cargo xtask docs`");
    }
}
