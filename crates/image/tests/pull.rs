//! Pulling from a registry that behaves, and from one that does not.

#[allow(dead_code, reason = "every test file uses a part of it")]
mod support;

use catamaran_image::{Credential, Error, ErrorKind, Form, Image, Reference};
use serde_json::json;
use support::{Access, Fake, Fault, OCI_INDEX, OCI_MANIFEST, PASSWORD, USER, layer, store};

fn credentials(registry: &str) -> Vec<Credential> {
    let (username, password) = (USER.to_owned(), PASSWORD.to_owned());
    vec![Credential {
        registry: registry.to_owned(),
        username,
        password,
        identity_token: None,
    }]
}

fn kind(result: Result<Image, Error>) -> ErrorKind {
    result.expect_err("must fail").kind()
}

fn blob_of(content: &str) -> String {
    catamaran_image::Digest::of(&layer(content)).to_string()
}

#[tokio::test]
async fn an_index_gives_the_image_of_this_platform_and_works_offline() {
    let fake = Fake::start().await;
    let mut offers = Vec::new();
    for architecture in ["arm64", "amd64"] {
        let mut descriptor = fake.image("team/app", architecture, architecture, architecture);
        descriptor["platform"] = json!({"os": "linux", "architecture": architecture});
        offers.push(descriptor);
    }
    let index = json!({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": offers});
    let index = fake.manifest("team/app", "v1", OCI_INDEX, &index);
    let (_dir, store) = store(|_| ());
    let name = fake.name("team/app:v1");
    assert_eq!(store.get(&name).await.unwrap(), None);
    let image = store.pull(&name, &[]).await.unwrap();
    assert_eq!(image.names, std::slice::from_ref(&name));
    let by_digest = fake.name(&format!("team/app@{}", index["digest"].as_str().unwrap()));
    assert_eq!(image.digests, std::slice::from_ref(&by_digest));
    assert_eq!(
        (image.form.clone(), image.architecture.as_str()),
        (Form::Linux, "amd64")
    );
    assert_eq!(
        (image.config.entrypoint.as_slice(), image.config.env.as_slice()),
        (["/content".to_owned()].as_slice(), ["A=b".to_owned()].as_slice())
    );
    assert_eq!(
        fake.count("GET", &blob_of("arm64")),
        0,
        "only what runs here is downloaded"
    );

    drop(fake);
    for reference in [name.as_str(), &by_digest, &image.id, &image.id[7..], &image.id[7..19]] {
        assert_eq!(
            store.get(reference).await.unwrap().as_ref(),
            Some(&image),
            "{reference}"
        );
    }
    assert_eq!(store.list().await.unwrap(), std::slice::from_ref(&image));
    if rustix::process::geteuid().is_root() {
        let root = store.root(&image).await.unwrap();
        assert_eq!(
            std::fs::read_to_string(root.lower_dirs[0].join("content")).unwrap(),
            "amd64"
        );
        assert_eq!(store.root(&image).await.unwrap(), root);
    } else {
        assert_ne!(std::env::var("CI").as_deref(), Ok("true"), "unpacking needs root");
        eprintln!("skipped: unpacking needs root");
    }
}

#[tokio::test]
async fn access_is_asked_for_as_the_registry_wants_it() {
    for access in [Access::Basic, Access::Token] {
        let fake = Fake::start().await;
        fake.image("team/app", "v1", "amd64", "x");
        fake.with().access = access;
        let (_dir, store) = store(|_| ());
        let name = fake.name("team/app:v1");
        let error = store.pull(&name, &[]).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unauthorized);
        assert!(error.to_string().contains("without credentials"), "{error}");
        let wrong = Credential {
            password: "wrong".into(),
            ..credentials(&fake.host()).remove(0)
        };
        assert_eq!(
            kind(store.pull(&name, std::slice::from_ref(&wrong)).await),
            ErrorKind::Unauthorized
        );
        assert_eq!(
            kind(store.pull(&name, &credentials("elsewhere.example")).await),
            ErrorKind::Unauthorized
        );
        // The more specific entry is tried first, the good one after it.
        let specific = Credential {
            registry: format!("{}/team", fake.host()),
            ..wrong
        };
        let both = [vec![specific], credentials(&fake.host())].concat();
        store.pull(&name, &both).await.unwrap();
        let before = fake.count("GET", "/token");
        store.pull(&name, &credentials(&fake.host())).await.unwrap();
        assert_eq!(fake.count("GET", "/token"), before, "a token is used again");
        let helper = Credential::parse_docker_config(
            format!(r#"{{"credHelpers": {{"{}": "gcloud"}}}}"#, fake.host()).as_bytes(),
            "config.json",
        );
        let error = store.pull(&name, &helper.unwrap()).await.unwrap_err().to_string();
        assert!(error.contains("helper \"gcloud\""), "{error}");
    }
}

#[tokio::test]
async fn a_broken_download_is_resumed_or_begun_again() {
    for ranges in [true, false] {
        let fake = Fake::start().await;
        let content = "x".repeat(100_000);
        fake.image("app", "v1", "amd64", &content);
        fake.with().ranges = ranges;
        fake.fault(
            &blob_of(&content),
            [
                Fault::Break(30_000),
                Fault::Status(503),
                Fault::Break(30_000),
                Fault::Break(0),
            ],
        );
        let (_dir, store) = store(|_| ());
        store.pull(&fake.name("app:v1"), &[]).await.unwrap();
        let requests = fake
            .with()
            .log
            .iter()
            .filter(|line| line.contains(&blob_of(&content)))
            .cloned()
            .collect::<Vec<_>>();
        assert_eq!(requests.len(), 5, "{requests:?}");
        assert!(requests[1].ends_with("bytes=30000-"), "{requests:?}");
        assert_eq!(requests[4].ends_with("bytes=60000-"), ranges, "{requests:?}");
    }
}

#[tokio::test]
async fn patience_has_an_end() {
    let fake = Fake::start().await;
    fake.image("app", "v1", "amd64", "x");
    let (_dir, store) = store(|options| options.attempts = 3);
    fake.fault("manifests/v1", [Fault::Status(429), Fault::Status(500)]);
    store.pull(&fake.name("app:v1"), &[]).await.unwrap();
    fake.fault("manifests/v1", [Fault::Status(429); 3]);
    let error = store.pull(&fake.name("app:v1"), &[]).await.unwrap_err();
    assert!(error.to_string().ends_with("is busy (429); tried 3 times"), "{error}");
    fake.image("other", "v1", "amd64", "never comes");
    fake.fault(&blob_of("never comes"), [Fault::Break(0); 3]);
    assert_eq!(
        kind(store.pull(&fake.name("other:v1"), &[]).await),
        ErrorKind::Unreachable
    );
}

#[tokio::test]
async fn silence_is_not_waited_for_for_ever() {
    let fake = Fake::start().await;
    fake.image("app", "v1", "amd64", "x");
    fake.fault(&blob_of("x"), [Fault::Hang, Fault::Hang]);
    let (_dir, store) = store(|options| {
        options.read_timeout = std::time::Duration::from_millis(50);
        options.attempts = 2;
    });
    assert_eq!(
        kind(store.pull(&fake.name("app:v1"), &[]).await),
        ErrorKind::Unreachable
    );
}

#[tokio::test]
async fn wrong_content_is_never_stored() {
    let fake = Fake::start().await;
    fake.image("app", "v1", "amd64", "right");
    let (dir, store) = store(|_| ());
    let name = fake.name("app:v1");
    fake.fault(&blob_of("right"), [Fault::Corrupt]);
    let error = store.pull(&name, &[]).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Digest);
    assert!(
        error.to_string().contains(&format!("expected {}", blob_of("right"))),
        "{error}"
    );
    fake.fault("manifests/v1", [Fault::Corrupt]);
    assert_eq!(kind(store.pull(&name, &[]).await), ErrorKind::Digest);
    assert_eq!(store.get(&name).await.unwrap(), None);
    assert!(
        !dir.path()
            .join("images/blobs/sha256")
            .join(&blob_of("right")[7..])
            .exists()
    );
    store.pull(&name, &[]).await.unwrap();
}

#[tokio::test]
async fn every_failure_has_its_kind() {
    let fake = Fake::start().await;
    let (_dir, store) =
        store(|options| options.insecure_tls_hosts = vec![fake.host().replace("127.0.0.1", "127.0.0.2")]);
    let error = store.pull(&fake.name("none:v1"), &[]).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert!(error.to_string().contains("none:v1: manifest unknown"), "{error}");

    let closed = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let error = store.pull(&format!("{closed}/a"), &[]).await.unwrap_err();
    assert_eq!(
        (error.kind(), error.reason()),
        (ErrorKind::Unreachable, "RegistryUnavailable")
    );
    assert_eq!(kind(store.pull("not//valid", &[]).await), ErrorKind::InvalidReference);

    fake.image("arm", "v1", "arm64", "foreign");
    assert_eq!(kind(store.pull(&fake.name("arm:v1"), &[]).await), ErrorKind::Platform);
    assert_eq!(
        fake.count("GET", &blob_of("foreign")),
        0,
        "judged before it is downloaded"
    );

    let chart = fake.blob(b"chart");
    let document = json!({"schemaVersion": 2, "mediaType": OCI_MANIFEST,
        "config": {"mediaType": "application/vnd.cncf.helm.config.v1+json", "digest": chart["digest"], "size": 5},
        "layers": [{"mediaType": "application/vnd.cncf.helm.chart.content.v1.tar+gzip", "digest": chart["digest"], "size": 5}]});
    fake.manifest("chart", "v1", OCI_MANIFEST, &document);
    let error = store.pull(&fake.name("chart:v1"), &[]).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::UnknownArtifact);
    assert!(error.to_string().contains("helm.chart"), "{error}");
    assert_eq!(fake.count("GET", chart["digest"].as_str().unwrap()), 0);

    let mut huge = document.clone();
    huge["layers"][0] = json!({"mediaType": support::OCI_LAYER, "digest": chart["digest"], "size": 1u64 << 60});
    huge["config"]["mediaType"] = json!(support::OCI_CONFIG);
    fake.manifest("huge", "v1", OCI_MANIFEST, &huge);
    assert_eq!(kind(store.pull(&fake.name("huge:v1"), &[]).await), ErrorKind::TooLarge);
}

#[tokio::test]
async fn tls_failures_are_told_apart() {
    // Bytes that are no TLS, where TLS is expected.
    let fake = Fake::start().await;
    let (_dir, store) = store(|options| options.insecure_tls_hosts = vec![fake.host()]);
    assert_eq!(kind(store.pull(&fake.name("a:v1"), &[]).await), ErrorKind::Tls);
}

#[tokio::test]
async fn pulls_of_the_same_layer_share_one_download() {
    let fake = Fake::start().await;
    for tag in ["a", "b", "c"] {
        fake.image("app", tag, "amd64", "shared");
    }
    let (_dir, store) = store(|_| ());
    let names = ["a", "b", "c"].map(|tag| fake.name(&format!("app:{tag}")));
    let pulls = names.iter().map(|name| store.pull(name, &[]));
    for result in futures::future::join_all(pulls).await {
        result.unwrap();
    }
    assert_eq!(fake.count("GET", &blob_of("shared")), 1);
    assert_eq!(store.list().await.unwrap()[0].names, names);
}

#[tokio::test]
async fn wasm_artifacts_of_every_declared_form_are_pulled() {
    let fake = Fake::start().await;
    let (_dir, store) = store(|_| ());
    let module = b"\0asm\x01\0\0\0";
    let empty = fake.blob(b"{}");
    for (tag, config, layer) in [
        ("cncf", "application/vnd.wasm.config.v0+json", "application/wasm"),
        (
            "component",
            "application/vnd.wasm.config.v0+json",
            "application/vnd.bytecodealliance.wasm.component.layer.v0+wasm",
        ),
        (
            "content",
            "application/vnd.wasm.config.v1+json",
            "application/vnd.wasm.content.layer.v1+wasm",
        ),
    ] {
        let mut descriptor = fake.blob(module);
        descriptor["mediaType"] = json!(layer);
        let document = json!({"schemaVersion": 2, "layers": [descriptor],
            "config": {"mediaType": config, "digest": empty["digest"], "size": 2}});
        fake.manifest("wasm", tag, OCI_MANIFEST, &document);
        let image = store.pull(&fake.name(&format!("wasm:{tag}")), &[]).await.unwrap();
        let Form::WasmArtifact { module: path, .. } = &image.form else {
            panic!("{image:?}")
        };
        assert_eq!(std::fs::read(path).unwrap(), module);
        assert_eq!(store.root(&image).await.unwrap().lower_dirs.len(), 0);
    }
    assert_eq!(
        store.list().await.unwrap().len(),
        3,
        "the same empty config does not make them one image"
    );
}

#[tokio::test]
async fn mirrors_are_asked_first() {
    let (upstream, mirror) = (Fake::start().await, Fake::start().await);
    upstream.image("app", "both", "amd64", "x");
    mirror.image("app", "both", "amd64", "x");
    upstream.image("app", "upstream", "amd64", "y");
    let (_dir, store) = store(|options| {
        options.mirrors.insert(upstream.host(), vec![mirror.host()]);
    });
    store.pull(&upstream.name("app:both"), &[]).await.unwrap();
    assert_eq!(upstream.count("GET", "both"), 0);
    store.pull(&upstream.name("app:upstream"), &[]).await.unwrap();
    assert!(Reference::parse(&store.get(&upstream.name("app:both")).await.unwrap().unwrap().names[0]).is_ok());
}

#[tokio::test]
async fn a_full_disk_costs_only_what_can_be_pulled_again_and_nobody_holds() {
    let fake = Fake::start().await;
    let (dir, store) = store(|_| ());
    let mut names = Vec::new();
    for repository in ["team/held", "team/old", "team/new", "team/renamed"] {
        fake.image(repository, "v1", "amd64", repository);
        names.push(fake.name(&format!("{repository}:v1")));
        store.pull(&names[names.len() - 1], &[]).await.unwrap();
    }
    let held = store.get(&names[0]).await.unwrap().unwrap();
    store.hold(&held, "pod").await.unwrap();
    store.tag(&names[3], "mine:1").await.unwrap();
    let rootfs = dir.path().join("rootfs");
    std::fs::create_dir_all(&rootfs).unwrap();
    store
        .pack(&catamaran_image::PackSource::RootfsDir(rootfs), "packed:1")
        .await
        .unwrap();

    let hour = std::time::Duration::from_secs(3600);
    assert!(store.prune(hour, || false).await.unwrap().is_empty(), "too young");
    let asked = std::cell::Cell::new(0);
    let enough = || asked.replace(asked.get() + 1) == 1;
    assert_eq!(
        store.prune(std::time::Duration::ZERO, enough).await.unwrap(),
        std::slice::from_ref(&names[1]),
        "the oldest, then there is room"
    );
    assert_eq!(
        store.prune(std::time::Duration::ZERO, || false).await.unwrap(),
        std::slice::from_ref(&names[2])
    );
    for name in [&names[0], &names[3], "packed:1"] {
        assert!(store.get(name).await.unwrap().is_some(), "{name} stays");
    }
}
