// Package offline lets a gate stand beside a till, far from everything else: it asks
// the checks of an agent upstream, and answers them itself when nobody is there.
//
// Its promise: Check returns within Config.Patience whatever the network does. What
// upstream says is passed on as it is. When upstream is away every answer is a warning
// and degraded, never a pass and never a stop; where this agent itself has taken in a
// sale of that box, the warning says so; where it has a filter of what was settled
// elsewhere (package gate/filter), it says what that says, and of when.
//
// Why no stop: what looks like a second sale may be none. The box may be a carton,
// which only reference data tells; the first sale may have been returned or voided
// through another door. A wrong stop turns an honest patient away, a warning lets the
// pharmacist look. contract.md, section 6, has warn for just this.
//
// What it remembers are hashes of codes, settlements and events, in a file of its own;
// no person. The file is a hint: it is not synced, and when it is lost or damaged
// answers are less helpful and nothing else happens.
package offline
