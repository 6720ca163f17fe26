// Package loadtest drives a running system with scans of which everything is
// known, and says whether they are in the table: all of them, each once, and
// unchanged.
//
// Traffic promises the same events for the same configuration, in memory that
// does not grow with their number, and a Truth worked out from the events alone,
// before the system under test has seen any. Audit compares the table with it.
// Run does all: publish, measure, wait, audit.
//
// It starts no system and cleans up none: what it published stays in the table,
// in institutions whose names end with -T and five digits.
package loadtest
