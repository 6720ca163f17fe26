package bulk

import (
	"bufio"
	"io"
	"iter"
	"os"
	"path/filepath"
	"time"

	"yaosu/schema"
)

// references are the kinds of reference data there are, in the order to load them.
func (w *World) references() []reference {
	return []reference{
		{"regions", w.writeRegions},
		{"orgs", w.writeOrgs},
		{"drugs", w.writeDrugs},
		{"persons", w.writePersons},
		{"inpatient", w.writeStays},
	}
}

type reference struct {
	kind  string
	write func(io.Writer)
}

// Write writes the reference data into a directory, a CSV file each.
func (w *World) Write(dir string) error {
	for _, r := range w.references() {
		file, err := os.Create(filepath.Join(dir, r.kind+".csv"))
		if err != nil {
			return err
		}
		buffered := bufio.NewWriter(file)
		r.write(buffered)
		if err := buffered.Flush(); err != nil {
			return err
		}
		if err := file.Close(); err != nil {
			return err
		}
	}
	return nil
}

// Scans lives through the years and gives each scan and when it arrives, in that
// order. What it gives is the caller's.
func (w *World) Scans() iter.Seq2[schema.Scan, time.Time] {
	return func(yield func(schema.Scan, time.Time) bool) {
		for w.today+1 < days {
			var b batch
			w.nextDay(&b)
			for _, i := range b.order {
				if !yield(b.events[i].scan, b.events[i].received) {
					return
				}
			}
		}
	}
}
