// Package scanner brings scan events to the stream SCANS, as the software of a till
// does. It has two doors.
//
// A Spool is for tills. Publish returns when the event is on disk, network or not;
// Run sends what waits there whenever NATS can be reached, for as long as it takes.
// The promise: an event for which Publish or Store returned nil is in the stream in
// the end, whatever befalls the process, the network or the power in between, and
// the events of one institution are there in the order in which they were stored.
// Nothing of an event is changed on its way, its times least of all. An event may be
// in the stream more than once, when we died or were cut off before we learned that
// it was stored; the table has it once.
//
// It is bounded. When its disk or its limit is full, Store says ErrFull, stores
// nothing new and keeps what it has. An event that NATS will never take holds up no
// other: it goes into the file set-aside.ndjson, with the reason. So does a piece of
// the spool that the disk has spoilt. How a Spool keeps this:
//
//   - Events are records with a checksum, in segments that are only appended to, and
//     in a life of its own only: a torn end is found by its checksum, and nothing is
//     ever written behind it.
//   - Store writes and syncs, then returns. Callers that come while the disk is busy
//     share the next sync. A segment whose write or sync failed is cut back and never
//     used again.
//   - An institution has one message on its way at a time. When it is acknowledged, the
//     place behind it is noted, and segments that are done are removed. If we die
//     before that, the message is sent again.
//
// A Publisher is for files and tools: many events a message, many messages on their
// way at a time. When Flush returns no error, every event that was added is in the
// stream. A message that is sent again, because its acknowledgement was lost, the
// connection broke or a whole file is published a second time, has the same id as
// before and is stored once, for as long as the stream remembers ids (two minutes);
// after that the ingester sees that its events are the same. It keeps nothing on disk:
// when we die, what was not acknowledged may or may not be in the stream; add the
// same events again. Memory is bounded by Config, however much is added and however
// slow NATS is; then Add waits.
//
// The package does not say when an event can be queried.
package scanner
