// Package ingest moves scans from the stream SCANS into ClickHouse.
//
// Its promise: a message is acknowledged only after every event in it is in the
// table, or in the rejects with its bytes. Whatever dies, an acknowledged
// publish is neither lost nor counted twice. One bad event costs nobody but
// itself, and an engine that is away or overloaded costs time, never an event.
//
// # The life of a batch
//
//  1. Seek. The durable consumer is set back to its acknowledged floor F: what a
//     dead predecessor was given and did not finish is delivered again, in order,
//     at once. A crash here leaves nothing behind.
//  2. Read. Messages are taken strictly by stream sequence from F on. One that is
//     not the next (lost on the way, taken by a second reader, delivered again)
//     ends the reading: what is held goes to the table, then back to 1. So
//     whoever holds a message holds, or has stored, all before it. Messages that were
//     given to somebody and are acknowledged by nobody, as after the death of a
//     second reader, end the reading too when housekeeping sees them twice. A crash
//     here loses what was held in memory; it is still in the stream.
//  3. Build. A message is split, its events decoded and added to a block; refused
//     ones are set aside. A message larger than a batch is cut, and acknowledged
//     with its last part. Rows are a function of the message alone: its bytes, its
//     sequence and the time the stream took it. While one batch is stored the next
//     one fills, so batches are small when there is little to do and large under
//     load. A full batch stops the reading, so memory is bounded and the backlog
//     waits in the stream.
//  4. Refuse. Refused events go to the stream REJECTS (with a Nats-Msg-Id made of
//     sequence and position) and to the table reject_rows (whose key is the same).
//     A crash after it leaves rejects of a message that comes again: the table
//     keeps one, the stream does within its window for duplicates.
//  5. Insert: the vault, the voids, the scans, each in one block that the engine
//     stores whole or not at all. The token names the messages, so the engine drops
//     a block it has seen; beyond its memory the tables' keys do, as the rows are
//     the same. Any unclear answer is followed by the same insert again, for ever.
//     Only an answer about a row (a wrong type, a violated constraint) is followed
//     by halving the batch down to the event at fault, which is refused as in 4.
//     When it takes not one event of a hundred and more, the table is held to be
//     wrong: nothing is refused, and the same is tried again.
//     A crash after it leaves rows of messages that come again: the same rows.
//  6. Acknowledge the batch's last message and so all before it. That is a true
//     word whoever says it, also with a second reader about, because of 2. A crash
//     before it repeats 4 and 5; an acknowledgement that is lost on its way is
//     covered by the next.
//
// Canceling Run's context ends 2 and 3; what is held goes through 4 to 6.
//
// What it does not do: it makes no streams and no tables, reads no Arrow yet, and
// two of it on one consumer are safe but slow each other down.
package ingest
