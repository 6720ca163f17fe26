// Package local is the whole system's ground on one machine: a NATS server with
// JetStream inside this process, and a real ClickHouse in a child process.
//
// Its promises:
//
//   - An engine that dies by itself comes back on the same ports with the same
//     data; its clients only have to try again.
//   - No engine outlives its parent, however the parent died, and no two
//     engines ever open one directory.
//   - What the broker acknowledged survives the death of this process; with
//     BrokerConfig.SyncAlways it survives a power cut too.
//
// Both listen on loopback only and ask nobody for a password: whoever may run
// programs on the machine may read the data. The package knows nothing of scans
// or tables, and it never speaks to another machine.
package local
