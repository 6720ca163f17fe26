// Package gate is the HTTP door of yaosu: for tills and hospital systems that
// cannot speak NATS.
//
// Its promise: an event is answered "accepted" or "duplicate" only after the Sink
// has it for good, so whoever got that answer may forget it; who got none, or an
// error, sends it again, as often as needed. An event that breaks the contract
// costs only itself, and its bytes are kept with the reason. Nobody publishes,
// checks or reads for an institution that is not in his credential. What a
// request may take of memory and time is bounded, and so is the number of
// requests: who comes when all is taken is told when to come again.
//
// GET /healthz answers 200 as long as the process serves, GET /readyz only when
// every part it depends on answered just now. Requests that were begun are
// answered before Run returns.
//
// "duplicate" is a courtesy: it is said of what was acknowledged lately by this
// process, as far as a small memory reaches. Such an event is stored again all the
// same; that it counts once is seen to in the table.
//
// The door decides nothing about codes: Checker does. It keeps nothing itself.
package gate
