// Package faults is the proof of what package ingest promises. It has tests only:
// a table of faults, and a soak that breaks things at random.
//
//	go test ./ingest/faults -run TestFaults -v
//	go test ./ingest/faults -run TestChaos -chaos 10m -seed 1 -v
//
// Both use real engines and real processes, see package proc, and end with the
// same count: what the stream acknowledged is in the view scans once, with its
// content, or in the rejects with its bytes; what it did not acknowledge is there
// once at most. Rows that are stored twice and seen once are a failure too, but
// where the engine itself died or the ledger was deleted.
package faults
