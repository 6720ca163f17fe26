// Package scanner publishes scan events to the stream SCANS, as the software of a
// till does: many events a message, many messages on their way at a time, and
// nothing forgotten before NATS has acknowledged it.
//
// The promise: when Flush returns no error, every event that was added is in the
// stream. A message that is sent again, because its acknowledgement was lost, the
// connection broke or a whole file is published a second time, has the same id as
// before and is stored once, for as long as the stream remembers ids (two
// minutes); after that the ingester sees that its events are the same.
//
// When we die, what was not acknowledged may or may not be in the stream: add the
// same events again. Memory is bounded by Config, however much is added and
// however slow NATS is; then Add waits.
//
// It does not check events, keeps no spool on disk, and does not say when an event
// can be queried.
package scanner
