//! Names of spans, and of their attributes: OpenTelemetry's for messaging where it has one.
//!
//! ```text
//! create STAGE           PRODUCER  in a source's stage: from taken to settled
//!   send GROUP           PRODUCER  one a delivery: from when it could be sent to its disposition
//!     wait log, wait credit        why it was not sent at once
//!     process STAGE      CONSUMER  from sent to settled
//!       wire, queue, convert or handle, wait room
//!       wait send, send TOPIC        in Kafka's sink: until given to the client, until confirmed
//!       send NEXT …
//! ```
//!
//! Above `create` is a source's own span: of a request, a message, a record. Beside it are `receive`, and `wait room` until the stage
//! has taken the event.

/// A source's stage has taken an event.
pub const CREATE: &str = "create";
/// A delivery to a group.
pub const SEND: &str = "send";
/// A stage has an event of another one.
pub const PROCESS: &str = "process";

/// In the log, while nothing but credit could have kept it there: a member is missing, or its partition moves.
pub const WAIT_LOG: &str = "wait log";
/// In the log, for its consumer's credit.
pub const WAIT_CREDIT: &str = "wait credit";
/// From the producer's stage to the consumer's.
pub const WIRE: &str = "wire";
/// In the stage, before it is worked on.
pub const QUEUE: &str = "queue";
/// In a transform, retries included.
pub const CONVERT: &str = "convert";
/// In a handler, alone or in a batch, retries included.
pub const HANDLE: &str = "handle";
/// What was logged in a call, outside of any span of the author's own.
pub const LOG: &str = "log";
/// Its results wait for room in the log; or it itself, in a source, until the stage takes it.
pub const WAIT_ROOM: &str = "wait room";
/// In Kafka's sink, before its record is given to the client for the first time.
pub const WAIT_SEND: &str = "wait send";

/// At the edge, until an event is read and checked: a part of the request's span, or the first span of the event's trace.
pub const RECEIVE: &str = "receive";

/// An event that is not sampled was rejected here.
pub const REJECTED: &str = "rejected";
/// An event that is not sampled was slow, from the edge to here.
pub const SLOW: &str = "slow";

/// [`SYSTEM_JAIMINHO`] between stages.
pub const SYSTEM: &str = "messaging.system";
/// See [`SYSTEM`].
pub const SYSTEM_JAIMINHO: &str = "jaiminho";
/// `create`, `send`, `process`.
pub const OPERATION: &str = "messaging.operation.name";
/// The same.
pub const OPERATION_TYPE: &str = "messaging.operation.type";
/// CloudEvents' id of the one event that the span is about.
pub const MESSAGE_ID: &str = "messaging.message.id";
/// Events of one hand-over; no span of one event has it.
pub const BATCH_COUNT: &str = "messaging.batch.message_count";
/// The output: `STAGE` or `STAGE.NAME`; of Kafka, the topic.
pub const DESTINATION: &str = "messaging.destination.name";
/// The consumer stage's name.
pub const GROUP: &str = "messaging.consumer.group.name";
/// The stage whose span it is.
pub const STAGE: &str = "jaiminho.stage";
/// Instance at the other end of the link.
pub const PEER: &str = "jaiminho.peer";
/// 1 at first, one more each time that the event is sent again to the same group.
pub const ATTEMPT: &str = "jaiminho.attempt";
/// `accepted`, `rejected`, `released` (it comes again), `withdrawn`.
pub const OUTCOME: &str = "jaiminho.outcome";
/// Whether a dead letter of a rejected event is stored.
pub const STORED: &str = "jaiminho.dead_letter.stored";
/// Failed tries.
pub const FAILURES: &str = "jaiminho.failures";
/// Where the event was taken in: the process's incarnation, and its offset there.
pub const ORIGIN: &str = "jaiminho.origin";
/// A rejection's reason, or [`LINK_LOST`].
pub const ERROR_TYPE: &str = "error.type";
/// The delivery's link has ended before its disposition came.
pub const LINK_LOST: &str = "link_lost";

/// [`SYSTEM`] of Kafka's sink and source, for Event Hubs too.
pub const SYSTEM_KAFKA: &str = "kafka";
/// A record's partition.
pub const PARTITION: &str = "messaging.destination.partition.id";
/// A record's offset.
pub const OFFSET: &str = "messaging.kafka.offset";
/// A record's key.
pub const KEY: &str = "messaging.kafka.message.key";

/// As [`MESSAGE_ID`].
pub const EVENT_ID: &str = "cloudevents.event_id";
/// CloudEvents' source.
pub const EVENT_SOURCE: &str = "cloudevents.event_source";
/// CloudEvents' type.
pub const EVENT_TYPE: &str = "cloudevents.event_type";

/// Of a request.
pub const HTTP_METHOD: &str = "http.request.method";
/// Where it is listened, as configured.
pub const HTTP_ROUTE: &str = "http.route";
/// Of the answer.
pub const HTTP_STATUS: &str = "http.response.status_code";
/// Of a request.
pub const URL_PATH: &str = "url.path";
/// Of a request.
pub const URL_SCHEME: &str = "url.scheme";
/// `websocket`.
pub const PROTOCOL: &str = "network.protocol.name";
/// Events of a request.
pub const EVENTS: &str = "jaiminho.events";
