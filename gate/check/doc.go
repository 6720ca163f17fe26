// Package check answers, before a box is settled, whether selling it now would make
// a finding of the detectors (contract.md, sections 6 and 8).
//
// Its promise: an answer that is not marked degraded knows every sale, return and
// void that NATS acknowledged up to a moment ago, and all that is in the table. It is
// made in this process, from memory and a local file, so it waits for nobody. Where
// something is missing (NATS or ClickHouse away, the index being made) the answer
// comes as fast, says so, and passes nothing: what it knows to be a stop stays one,
// all else is a warning. No answer names a person or another shop.
//
// # What is kept
//
// Of each upload of a sale or return of an item code: where, when, by whom it was
// paid, and hashes of event, settlement, upload number and person. That is what the
// words of section 8 ask for, about thirty bytes. Uploads lie sorted by code in runs,
// files of pages that are written once and never changed; the newest are in memory
// until they are enough for another run, and runs are joined in the background. Voids
// are few and all in memory. Nothing is worked out before somebody asks: what became
// of a box is told anew from its uploads each time, so a late return or void changes
// the next answer, whatever the order of arrival.
//
// # How it stays true
//
//  1. Start. The runs of this table and stream are opened. Where they do not begin at
//     the first scan, or are damaged, they are thrown away and made again from the
//     table, slice by slice of the codes.
//  2. What came in between the newest run and the oldest message of the stream is read
//     from the table, by sequence.
//  3. The stream is followed, from what the ingester is known to have stored, or from
//     the newest run, whichever is less. So what is in neither is seen twice at most,
//     and an upload seen twice is one.
//  4. A run says up to which sequence it is complete. It is written beside, synced and
//     renamed. If we die before, its uploads come again from the stream.
//
// What it does not do: it writes to no table and no stream. It judges boxes, not
// persons: that a patient is dead or in hospital is not for a shop to learn. Of
// uploads of one institution and one code at the very same millisecond that differ in
// who pays, it may take another one to be first than the detectors do, as it
// keeps no event ids.
package check
