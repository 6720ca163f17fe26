// Command make writes a made-up town of scan events with its reference data.
package main

import (
	"flag"
	"fmt"
	"os"

	"yaosu/loadtest/town"
)

func main() {
	out := flag.String("out", "town", "the `DIRECTORY` to write events.ndjson, the reference CSVs, expected.json and accused.json to")
	seed := flag.Uint64("seed", 1, "the same seed makes the same town")
	tiny := flag.Bool("tiny", false, "a town of about a thousand events, not fifteen thousand")
	flag.Parse()
	size := town.Usual()
	if *tiny {
		size = town.Tiny()
	}
	if err := town.Make(*seed, size).Write(*out); err != nil {
		fmt.Fprintln(os.Stderr, "make a town:", err)
		os.Exit(1)
	}
}
