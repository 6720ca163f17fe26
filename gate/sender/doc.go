// Package sender knows who may speak: the credentials of institutions, software
// vendors and bureaus, kept in the NATS KV bucket SENDERS.
//
// Its promises:
//
//   - Of a token only the SHA-256 is kept. A token is 130 random bits: no list of
//     guesses reaches it, so a slow hash would protect nothing and cost every request.
//   - A credential publishes and asks for its own institutions, and reads its own
//     inbox, _INBOX_<name>, and nothing else, over NATS as over HTTP. Nor can it
//     have somebody with more rights write for it, by where it wants its answer.
//   - What is revoked is refused at once by every process that runs a Directory. A
//     connection to NATS that was let in before is ended within a second, and
//     within Lifetime and a ninth of it when no Callout runs.
//
// NATS asks who a connection is by its auth callout: a request to whoever runs a
// Callout, any number of them, answered with the exact permissions. When none
// runs, who is connected stays so for Lifetime, and nobody new is let in.
//
// The package does not judge what is inside a message; the ingester compares the
// events with the subject they came on.
package sender
