use super::*;

#[test]
fn what_an_agent_writes_has_no_secrets() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("queue.db");
    let redactor = Redactor::with_environment([("SHOP_TOKEN", "correct horse battery")]);
    let server = Server::new(Queue::create(&path).unwrap(), None, redactor);
    let secret = format!("ghp_{}", "aB3".repeat(12));
    let text = |what: &str| format!("{what} {secret} correct horse battery");
    let clean = |what: &str| format!("{what} [redacted:github-token] [redacted:SHOP_TOKEN]");
    let create: CreateRequest =
        serde_json::from_value(json!({ "title": text("title"), "description": text("all") })).unwrap();
    server.issue_create(Parameters(create));
    let task = || Queue::open(&path).unwrap().task(1).unwrap();
    assert_eq!((task().title, task().description), (clean("title"), clean("all")));
    let update: UpdateRequest =
        serde_json::from_value(json!({ "id": 1, "title": text("new"), "description": text("more") })).unwrap();
    server.issue_update(Parameters(update));
    assert_eq!((task().title, task().description), (clean("new"), clean("more")));
    server.issue_block(Parameters(BlockRequest { id: 1, reason: text("why") }));
    assert_eq!(task().reason, Some(clean("why")));
    let refused = server.issue_block(Parameters(BlockRequest { id: 1, reason: " ".to_owned() }));
    assert_eq!((refused.is_error, task().reason), (Some(true), Some(clean("why"))), "no reason is none");
}
