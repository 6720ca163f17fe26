// Package bench measures how fast the ingester is, as a share of what the engine
// itself can insert. It has only a benchmark: make bench runs it.
package bench
