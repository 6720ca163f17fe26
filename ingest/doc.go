// Package ingest moves scans from the stream SCANS into ClickHouse.
//
// Its promise: every event that NATS acknowledged is in the table once, or in the
// rejects with its bytes. Whatever dies, at whatever moment, nothing is lost and a
// query over the view scans sees nothing twice. One bad event costs nobody but
// itself, and an engine that is away or overloaded costs time, never an event.
//
// # The ledger
//
// The stream is worked through in stretches of sequences. One entry of a KV bucket,
// the ledger, says which sequences nobody has yet, which stretches are open and
// whose they are, and of each how far it is stored. It is changed by compare-and-set
// on its revision only. So a stretch has one owner, and whoever lost one finds out at
// the next change, which comes before the next insert.
//
// Any number of ingesters share a ledger; each works on some stretches at a time.
// With a backlog they take one stretch after the other. At the end of the stream one
// of them has the last stretch, which reaches beyond the end, and the others wait.
//
// An owner answers on a subject of its own. When NATS knows nobody there, the owner
// is dead; when it is connected and silent for the lease, it is stalled. In both
// cases another ingester takes the stretch over. It may be wrong about that: then two
// store the same for a moment, which changes nothing, and one of them is told by the
// ledger. No clock of any machine is compared with another's.
//
// # The life of a batch
//
//  1. Claim a stretch, or take over one whose owner is gone. A crash here leaves a
//     stretch in which nothing was done; it is taken over.
//  2. Read it, from where it is stored, strictly by sequence, through a consumer that
//     remembers nothing and needs no acknowledgement. So there is no limit of
//     deliveries to reach, and a message lost on the way is seen, as the server counts
//     what it sends: by the next message, or in a pause by asking. A crash here loses
//     what was in memory; it is still in the stream.
//  3. Build. A message is split, its events are checked and added to a block of
//     columns; refused ones are set aside. A message larger than a batch is cut
//     between two events. Rows are a function of the message alone, its bytes, its
//     sequence and the time the stream took it, and of the placeholders known at the
//     time. While one batch is stored the next one
//     fills, so batches are small when there is little to do and large under load. A
//     full batch stops the reading: memory is bounded, and the backlog waits in the
//     stream, which refuses new messages when it is full.
//  4. Open: the range of the batch is written into the ledger, from which event up to
//     which. This is the fence: who has lost the stretch fails here, and so does a batch
//     that does not begin where the ledger says the one before it ended. A crash after it
//     leaves an open range. Whoever takes the stretch over stores exactly that range
//     first, so that the insert is the same and carries the same token.
//  5. Reject. Refused events go to the stream REJECTS (with a Nats-Msg-Id made of
//     sequence and position) and to the table reject_rows (whose key is the same). A
//     crash after it leaves rejects that come again: the table keeps one, the stream
//     does within its window for duplicates.
//  6. Insert: the vault, the voids, the scans, each in one block that the engine
//     stores whole or not at all, and on disk before it answers. The token is made of
//     stream, stretch and range, so the engine drops a block it has seen. It may have
//     forgotten (its memory of tokens is bounded, and is not safe in a power cut):
//     then the rows are there twice and fall together, as their keys are equal, and
//     the view shows one of them at any time. For that reason nobody looks before
//     inserting again whether the rows are there: to insert is always right, and to
//     skip would be wrong when the sequences are those of an older stream. Any unclear
//     answer is followed by the same insert again, for ever. Only an answer about a row
//     (a wrong type, a violated constraint) is followed by halving the batch down to
//     the event at fault, which is refused as in 5. When the table takes not one
//     event of a hundred and more, the table is held to be wrong: nothing is refused,
//     and the same is tried again. A crash after it leaves rows that come again: the
//     same rows.
//  7. Close: the ledger says that the stretch is stored up to the end of the range. A
//     crash before it repeats 5 and 6. A stretch that is stored to its end leaves the
//     ledger.
//
// Canceling Run's context ends 2 and 3; what is held goes through 4 to 7.
//
// Nothing additive is kept of what is stored, no counts and no sums, so nothing can
// be counted twice. If the ledger itself is lost, all that is still in the stream is
// stored again, and falls together.
//
// What it does not do: it makes no streams and no tables, and it does not know
// whether an event is true.
package ingest
