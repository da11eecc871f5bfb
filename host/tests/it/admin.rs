//! Who may change what runs, and how attempts fail that are no component: each with a clear error, and nothing harmed.

use std::fs;

use reqwest::{Method, StatusCode};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use super::support::{
    FAULTY, Host, Setup, VERSIONS,
    answer::Reply,
    eventually,
    operator::{TOKEN, build, revision},
    process::Process,
    staged, within,
};

/// Says what a push with this token is answered.
async fn with_token(host: &Host, token: Option<&str>) -> (u16, String) {
    let request = host.management_request(Method::PUT, "/admin/strategies/v1");
    let request = match token {
        Some(token) => request.bearer_auth(token),
        None => request,
    };
    let reply = Reply::read(request.body("no component").send().await.unwrap()).await;
    let code = reply.json()["code"].as_str().unwrap().to_owned();
    (reply.status.as_u16(), code)
}

fn refusal(status: u16, code: &str) -> (u16, String) {
    (status, code.to_owned())
}

#[tokio::test]
async fn without_a_token_of_its_own_a_host_takes_no_change_from_anybody() {
    let host = Host::start().await;
    for token in [None, Some(""), Some(TOKEN)] {
        let answer = with_token(&host, token).await;
        assert_eq!(answer, refusal(404, "NOT_FOUND"), "{token:?}");
    }
    let response = host.operate(Method::GET, "/strategies").send().await;
    let problem = Reply::read(response.unwrap()).await.problem();
    assert!(problem.detail.contains("TIMESALE_ADMIN_TOKEN"));
}

#[tokio::test]
async fn a_token_in_a_file_is_asked_for_and_a_new_one_takes_its_place() {
    let setup = Setup::new();
    let file = setup.data().join("admin-token");
    fs::write(&file, "first").unwrap();
    let host = setup
        .set("TIMESALE_ADMIN_TOKEN_FILE", file.display())
        .start()
        .await;
    for token in [None, Some("wrong"), Some("firs"), Some("first and more")] {
        let answer = with_token(&host, token).await;
        assert_eq!(answer, refusal(401, "UNAUTHORIZED"), "{token:?}");
    }
    assert_eq!(
        with_token(&host, Some("first")).await,
        refusal(422, "REFUSED")
    );
    // What nobody could show takes nobody's place.
    fs::write(&file, "two\nlines").unwrap();
    host.logged("holds no usable secret").await;
    assert_eq!(
        with_token(&host, Some("first")).await,
        refusal(422, "REFUSED")
    );
    fs::write(&file, "second").unwrap();
    eventually(
        "the old token is worth nothing",
        async || match with_token(&host, Some("first")).await.0 {
            401 => Ok(()),
            other => Err(other),
        },
    )
    .await;
    assert_eq!(
        with_token(&host, Some("second")).await,
        refusal(422, "REFUSED")
    );
}

/// Begins an upload by hand: its head, and no more than is asked for here; the host says where it wants the rest.
async fn begin_upload(host: &Host, length: u64, sent: &[u8]) -> TcpStream {
    let mut stream = TcpStream::connect(host.management_address()).await.unwrap();
    let head = format!(
        "PUT /admin/strategies/v1 HTTP/1.1\r\nhost: test\r\nauthorization: Bearer {TOKEN}\r\ncontent-length: {length}\r\nexpect: 100-continue\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    stream.write_all(sent).await.unwrap();
    stream
}

/// The first line of what the host answers.
async fn status_line(stream: &mut TcpStream) -> String {
    let mut answer = Vec::new();
    let read = async {
        while !answer.contains(&b'\n') {
            let mut bytes = [0; 256];
            match stream.read(&mut bytes).await.unwrap() {
                0 => break,
                read => answer.extend(&bytes[..read]),
            }
        }
    };
    within("an answer", read).await;
    let answer = String::from_utf8_lossy(&answer);
    answer.lines().next().unwrap_or_default().to_owned()
}

#[tokio::test]
async fn an_upload_of_a_gigabyte_is_refused_before_it_is_sent() {
    let host = Setup::new().with_operator().start().await;
    let mut upload = begin_upload(&host, 1 << 30, &[]).await;
    let answer = status_line(&mut upload).await;
    assert_eq!(answer, "HTTP/1.1 413 Payload Too Large");
    // One that does not say how long it is, is cut off once it is longer than a component may be.
    let mut endless = TcpStream::connect(host.management_address()).await.unwrap();
    let head = format!(
        "PUT /admin/strategies/v1 HTTP/1.1\r\nhost: test\r\nauthorization: Bearer {TOKEN}\r\ntransfer-encoding: chunked\r\n\r\n"
    );
    endless.write_all(head.as_bytes()).await.unwrap();
    let mut chunk = b"20000\r\n".to_vec();
    chunk.extend(vec![0; 0x2_0000]);
    chunk.extend(b"\r\n");
    let mut chunks = 0_usize;
    while endless.write_all(&chunk).await.is_ok() {
        chunks += 1;
        assert!(chunks < 1_600, "200 MiB were taken");
    }
    host.push_well("v1", "", build("v1", 1)).await;
}

#[tokio::test]
async fn a_second_upload_is_refused_while_one_is_under_way_and_a_slow_one_is_ended() {
    let host = Setup::new().with_operator().start().await;
    let mut slow = begin_upload(&host, 1_000, &[]).await;
    assert_eq!(status_line(&mut slow).await, "HTTP/1.1 100 Continue");
    let second = host.push("v1", "", build("v1", 1)).await;
    assert_eq!(second.problem().code, "IN_PROGRESS");
    // Another version is free.
    host.push_well("v9", "", build("v9", 1)).await;
    // A slow line does not keep anybody from switching the version off.
    host.act_well("v1", "disable").await;
    host.act_well("v1", "enable").await;
    let answer = status_line(&mut slow).await;
    assert_eq!(answer, "HTTP/1.1 408 Request Timeout");
    host.push_well("v1", "", build("v1", 1)).await;
    // One that hangs up leaves the way free, too.
    drop(begin_upload(&host, 1_000, b"\0asm").await);
    eventually("the next upload is taken", async || {
        let reply = host.push("v1", "", build("v1", 2)).await;
        if reply.status == 200 {
            Ok(())
        } else {
            Err(reply)
        }
    })
    .await;
}

#[tokio::test]
async fn what_is_refused_is_told_by_its_step_in_reply_audit_and_metric_and_changes_nothing() {
    let host = Setup::new().with_operator().start().await;
    let before = host.shown("v1").await;
    let whole = build("v1", 0);
    let torn = whole[..whole.len() / 2].to_vec();
    let core = wat::parse_str("(module)").unwrap();
    let with_wasi = wat::parse_str(
        r#"(component (import "wasi:clocks/monotonic-clock@0.2.0"
            (instance (export "now" (func (result u64))))))"#,
    );
    let cases = [
        (
            b"not Wasm".to_vec(),
            "compile",
            "not a WebAssembly component",
        ),
        (torn, "compile", "does not compile"),
        (core, "compile", "core module"),
        (with_wasi.unwrap(), "link", "wasi:clocks/monotonic-clock"),
        // Its calls would be recorded under another name.
        (build("v9", 0), "describe", "purchaseTimeSaleTogether"),
    ];
    for (refused, (component, step, says)) in (1..).zip(cases) {
        let name = revision(&component);
        let reply = host.push("v1", "", component).await;
        assert_eq!(reply.status, StatusCode::UNPROCESSABLE_ENTITY, "{reply:?}");
        let problem = reply.json();
        assert_eq!(problem["code"], "REFUSED");
        assert_eq!(problem["step"], step, "{problem}");
        assert!(
            problem["detail"].as_str().unwrap().contains(says),
            "{problem}"
        );
        let line = host.last_audit("v1").await;
        assert_eq!(line["result"], "refused", "{line}");
        assert_eq!(line["to"], name.as_str(), "{line}");
        assert_eq!(line["evidence"]["step"], step, "{line}");
        let counted = [("version", "v1"), ("result", "refused")];
        let metrics = host.metrics().await;
        assert_eq!(
            metrics.sum("time_sale_strategy_swaps_total", &counted),
            f64::from(refused)
        );
    }
    let after = host.shown("v1").await;
    assert_eq!(after["epoch"], before["epoch"]);
    assert_eq!(after["live"], before["live"]);
    let sale = host.shop.sale(1).await;
    let answer = host.shop.buy("v1", sale, 42, 1).send().await;
    assert_eq!(answer.revision, Some(revision(&whole)));
}

#[tokio::test]
async fn what_makes_no_sense_is_refused_before_a_component_is_looked_at() {
    let host = Setup::new().with_operator().start().await;
    let push = async |path: &str| {
        let reply = host.push(path, "", build("v1", 1)).await;
        (reply.status.as_u16(), reply.problem().code)
    };
    assert_eq!(push("V1").await, refusal(400, "MALFORMED"));
    // A share that a script left empty is no push to everybody.
    for query in ["share=0", "share=100", "share=", "share", "shar=10"] {
        let pushed = push(&format!("v1?{query}")).await;
        assert_eq!(pushed, refusal(400, "MALFORMED"), "{query}");
    }
    // There is nothing beside which it could be tried.
    assert_eq!(push("v77?share=10").await, refusal(409, "UNFIT"));
    let live = host.push("v1", "", build("v1", 0)).await.problem();
    assert_eq!(live.code, "UNFIT", "{live:?}");
    let act = async |version: &str, action: &str| {
        let reply = host.act(version, action).await;
        (reply.status.as_u16(), reply.problem().code)
    };
    for action in ["promote", "abort", "rollback"] {
        assert_eq!(act("v1", action).await, refusal(409, "UNFIT"), "{action}");
    }
    assert_eq!(act("v1", "destroy").await, refusal(404, "NOT_FOUND"));
    assert_eq!(act("v55", "disable").await, refusal(404, "NOT_FOUND"));
    let metrics = host.metrics().await;
    for version in VERSIONS.iter().chain([&FAULTY]) {
        let counted = [("version", *version)];
        assert_eq!(metrics.sum("time_sale_strategy_swaps_total", &counted), 0.0);
    }
}

#[tokio::test]
async fn a_version_that_nobody_knew_is_served_as_soon_as_it_is_pushed() {
    let host = Setup::new().with_operator().start().await;
    let sale = host.shop.sale(1).await;
    let component = fs::read(staged().join("v9.wasm")).unwrap();
    let unknown = host.shop.buy("v10", sale, 42, 1).send().await;
    assert_eq!(unknown.brief(), "404 NOT_FOUND");
    host.push_well("v10", "", component.clone()).await;
    let answer = host.shop.buy("v10", sale, 42, 1).send().await;
    assert_eq!(answer.brief(), "201");
    assert_eq!(answer.revision, Some(revision(&component)));
}

#[tokio::test]
async fn the_command_line_does_all_of_it_and_says_what_became_of_it() {
    let host = Setup::new().with_operator().start().await;
    let file = host.setup().data().join("v1.wasm");
    let (first, second) = (build("v1", 1), build("v1", 2));
    let environment = [
        ("TIMESALE_MANAGEMENT_URL", host.management_address()),
        ("TIMESALE_ADMIN_TOKEN", TOKEN),
        ("USER", "somebody"),
    ];
    let environment = environment.map(|(name, value)| {
        let scheme = if name.ends_with("URL") { "http://" } else { "" };
        (name.to_owned(), format!("{scheme}{value}"))
    });
    let run = async |arguments: &[&str]| {
        let arguments = [&["plugin"], arguments].concat();
        let process = Process::launch(&arguments, &environment);
        let (stdout, stderr) = (process.stdout.clone(), process.stderr.clone());
        let success = within("the end of the command", process.wait()).await;
        let said = [stdout.whole().await, stderr.whole().await].concat();
        (success, said.join("\n"))
    };
    let path = file.to_str().unwrap();

    fs::write(&file, &first).unwrap();
    let (success, said) = run(&["push", path]).await;
    assert!(success, "{said}");
    let pushed = format!("push of v1: {} is live", revision(&first));
    assert!(said.starts_with(&pushed), "{said}");
    assert!(said.contains("it has drained"), "{said}");
    assert_eq!(host.last_audit("v1").await["by"], "somebody");
    let (success, said) = run(&["push", path]).await;
    assert!(!success && said.contains("UNFIT"), "{said}");

    fs::write(&file, &second).unwrap();
    let (success, said) = run(&["canary", path, "--share", "20"]).await;
    let tried = format!("{} takes 20 % of the users", revision(&second));
    assert!(success && said.contains(&tried), "{said}");
    let (_, said) = run(&["list"]).await;
    assert!(
        said.contains(&format!("candidate {}", revision(&second))),
        "{said}"
    );
    assert!(run(&["promote", "v1"]).await.0);
    host.runs("v1", &revision(&second)).await;
    let (success, said) = run(&["rollback", "v1"]).await;
    assert!(success && said.contains(&revision(&first)), "{said}");

    fs::write(&file, "half").unwrap();
    let (success, said) = run(&["push", path]).await;
    assert!(!success && said.contains("REFUSED at compile"), "{said}");
}
