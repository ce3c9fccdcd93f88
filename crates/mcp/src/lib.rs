//! `autopilot mcp`: the queue as tools for an agent, over stdio (Model Context Protocol).
//!
//! Each session gets a server of its own, so a call at a time is all that there is: one thread, and the database is asked there and then.
//!
//! **Invariant:** the only room with an async runtime; nothing but this subcommand uses it. The task that the session is for is not
//! completed or blocked from here: whether its result is accepted is not the agent's to say.

use std::io;
use std::sync::{Mutex, PoisonError};

use queue::{Change, Draft, Kind, Priority, Queue, Standing, Status, UnknownWord, task_json};
use rmcp::handler::server::router::tool::ToolRouter;
use rmcp::handler::server::wrapper::Parameters;
use rmcp::model::{CallToolResult, ContentBlock, Implementation, ServerCapabilities, ServerConfig};
use rmcp::service::ServerInitializeError;
use rmcp::{ServerHandler, ServiceExt, schemars, tool, tool_handler, tool_router};
use serde::Deserialize;
use serde_json::{Value, json};
use wire::redact::Redactor;

/// The tools.
#[derive(Debug)]
struct Server {
    queue: Mutex<Queue>,
    /// The task that the session works on.
    own: Option<i64>,
    /// In front of all that the agent writes: others read it, long after the session.
    redactor: Redactor,
    tool_router: ToolRouter<Self>,
}

#[derive(Debug, Deserialize, schemars::JsonSchema)]
struct ListRequest {
    /// Also those that are done
    #[serde(default)]
    all: bool,
}

#[derive(Debug, Deserialize, schemars::JsonSchema)]
struct IdRequest {
    /// The task's number
    id: i64,
}

#[derive(Debug, Deserialize, schemars::JsonSchema)]
struct BlockRequest {
    /// The task's number
    id: i64,
    /// What a person has to do first
    reason: String,
}

#[derive(Debug, Deserialize, schemars::JsonSchema)]
struct CreateRequest {
    /// One line
    title: String,
    /// What is to be done, so that somebody who knows nothing else can do it
    #[serde(default)]
    description: String,
    /// urgent, high, medium (default) or low
    priority: Option<String>,
    /// task (default), bug or feature
    #[serde(rename = "type")]
    kind: Option<String>,
    /// Numbers of the tasks that have to be done before
    #[serde(default)]
    needs: Vec<i64>,
}

#[derive(Debug, Deserialize, schemars::JsonSchema)]
struct UpdateRequest {
    /// The task's number
    id: i64,
    title: Option<String>,
    description: Option<String>,
    /// urgent, high, medium or low
    priority: Option<String>,
    /// task, bug or feature
    #[serde(rename = "type")]
    kind: Option<String>,
    /// All that it needs from now on
    needs: Option<Vec<i64>>,
}

/// What went wrong, in words for the agent.
struct Refusal(String);

impl From<queue::Error> for Refusal {
    fn from(error: queue::Error) -> Self {
        Self(error.to_string())
    }
}

impl From<UnknownWord> for Refusal {
    fn from(error: UnknownWord) -> Self {
        Self(error.to_string())
    }
}

fn answer(result: Result<Value, Refusal>) -> CallToolResult {
    match result {
        Ok(value) => CallToolResult::success(vec![ContentBlock::text(format!("{value:#}"))]),
        Err(Refusal(why)) => CallToolResult::error(vec![ContentBlock::text(why)]),
    }
}

#[tool_router]
impl Server {
    #[tool(description = "The tasks of this project's queue that are not done")]
    fn issue_list(&self, Parameters(ListRequest { all }): Parameters<ListRequest>) -> CallToolResult {
        answer(self.with(|queue, now_ms| {
            let tasks = queue.tasks()?;
            let wanted = tasks.iter().filter(|task| all || task.status != Status::Done);
            Ok(json!({ "tasks": wanted.map(|task| task_json(task, now_ms)).collect::<Vec<_>>() }))
        }))
    }

    #[tool(description = "The tasks that could be worked on now, the next one first")]
    fn issue_ready(&self) -> CallToolResult {
        answer(self.with(|queue, now_ms| {
            let mut tasks = queue.tasks()?;
            tasks.retain(|task| task.standing(now_ms) == Standing::Ready);
            tasks.sort_by_key(|task| (task.priority, task.created_ms, task.id));
            Ok(json!({ "tasks": tasks.iter().map(|task| task_json(task, now_ms)).collect::<Vec<_>>() }))
        }))
    }

    #[tool(description = "All about one task")]
    fn issue_get(&self, Parameters(IdRequest { id }): Parameters<IdRequest>) -> CallToolResult {
        answer(self.with(|queue, now_ms| Ok(task_json(&queue.task(id)?, now_ms))))
    }

    #[tool(description = "Puts a new task into the queue, for a later session")]
    fn issue_create(&self, Parameters(request): Parameters<CreateRequest>) -> CallToolResult {
        answer(self.with(|queue, now_ms| {
            let CreateRequest { title, description, priority, kind, needs } = request;
            let priority = priority.as_deref().map(queue::priority).transpose()?.unwrap_or(Priority::Medium);
            let kind = kind.as_deref().map(str::parse).transpose()?.unwrap_or(Kind::Task);
            let (title, description) = (self.clean(title), self.clean(description));
            let id = queue.create_task(&Draft { title, description, priority, kind, needs }, now_ms)?;
            Ok(task_json(&queue.task(id)?, now_ms))
        }))
    }

    #[tool(description = "Changes what a task says")]
    fn issue_update(&self, Parameters(request): Parameters<UpdateRequest>) -> CallToolResult {
        answer(self.with(|queue, now_ms| {
            let UpdateRequest { id, title, description, priority, kind, needs } = request;
            let priority = priority.as_deref().map(queue::priority).transpose()?;
            let kind = kind.as_deref().map(str::parse).transpose()?;
            let title = title.map(|text| self.clean(text));
            let description = description.map(|text| self.clean(text));
            queue.edit(id, &Change { title, description, priority, kind, needs }, now_ms)?;
            Ok(task_json(&queue.task(id)?, now_ms))
        }))
    }

    #[tool(description = "Sets a task aside until a person has done something. Not for the task that you work on")]
    fn issue_block(&self, Parameters(BlockRequest { id, reason }): Parameters<BlockRequest>) -> CallToolResult {
        if self.own == Some(id) {
            return answer(Err(Refusal(format!(
                "you work on #{id}: if you cannot go on without a person, end your last message with the line AUTOPILOT: BLOCKED {reason}"
            ))));
        }
        if reason.trim().is_empty() {
            return answer(Err(Refusal("say in a few words what a person has to do".to_owned())));
        }
        answer(self.with(|queue, now_ms| {
            queue.block(id, &self.clean(reason), None, now_ms)?;
            Ok(task_json(&queue.task(id)?, now_ms))
        }))
    }

    #[tool(description = "Notes that a task is done already. Not for the task that you work on")]
    fn issue_complete(&self, Parameters(IdRequest { id }): Parameters<IdRequest>) -> CallToolResult {
        if self.own == Some(id) {
            return answer(Err(Refusal(format!(
                "you work on #{id}: when all of it is done and checked, end your last message with the line AUTOPILOT: DONE"
            ))));
        }
        answer(self.with(|queue, now_ms| {
            queue.complete(id, None, now_ms)?;
            Ok(task_json(&queue.task(id)?, now_ms))
        }))
    }
}

impl Server {
    fn new(queue: Queue, own: Option<i64>, redactor: Redactor) -> Self {
        Self { queue: Mutex::new(queue), own, redactor, tool_router: Self::tool_router() }
    }

    fn clean(&self, text: String) -> String {
        self.redactor.text(&text).into_owned()
    }

    fn with(&self, call: impl FnOnce(&mut Queue, u64) -> Result<Value, Refusal>) -> Result<Value, Refusal> {
        // A call that panicked has changed nothing: its transaction was given up.
        let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        call(&mut queue, os::clock::wall_ms())
    }
}

#[tool_handler(router = self.tool_router)]
impl ServerHandler for Server {
    fn get_info(&self) -> ServerConfig {
        let own = self.own.map(|id| format!(" You work on #{id}.")).unwrap_or_default();
        let capabilities = ServerCapabilities::builder().enable_tools().build();
        let own_name = Implementation::new("autopilot", env!("CARGO_PKG_VERSION"));
        ServerConfig::new(capabilities).with_server_info(own_name).with_instructions(format!(
            "The queue of tasks of this project. Each task is worked on in a session of its own; put what is beyond yours into the queue.{own}"
        ))
    }
}

/// Serves this database on stdin and stdout until stdin ends.
///
/// # Errors
/// The runtime can't be made, or the client does not keep to the protocol.
pub fn serve(queue: Queue, own: Option<i64>, redactor: Redactor) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let service = match Server::new(queue, own, redactor).serve(rmcp::transport::stdio()).await {
            Ok(service) => service,
            // A client that goes before it has begun.
            Err(ServerInitializeError::ConnectionClosed(_)) => return Ok(()),
            Err(error) => return Err(io::Error::other(error)),
        };
        service.waiting().await.map_err(io::Error::other)?;
        Ok(())
    })
}

#[cfg(test)]
mod tests;
