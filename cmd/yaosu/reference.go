package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/urfave/cli/v3"

	"yaosu/schema"
)

func referenceCommand() *cli.Command {
	return &cli.Command{
		Name:        "reference",
		Usage:       "loads what is known beside the scans: institutions, drugs, persons …",
		Description: referenceHelp(),
		Commands: []*cli.Command{{
			Name:        "load",
			Usage:       "loads one CSV file",
			ArgsUsage:   "KIND FILE.csv",
			Description: referenceHelp(),
			Action:      loadReference,
		}},
	}
}

// referenceHelp tells the kinds and their columns.
func referenceHelp() string {
	var b strings.Builder
	b.WriteString("Examples:\n" +
		"  yaosu reference load orgs orgs.csv\n" +
		"  yaosu reference load persons persons.csv.gz --person-key /etc/yaosu/person.key\n" +
		"  zcat drugs.csv.gz | yaosu reference load drugs -\n\n" +
		"A file is CSV with a header line, in UTF-8; columns may stand in any order, empty means absent,\n" +
		"other columns are ignored and named. It is loaded as a whole or, when any row has a fault, not\n" +
		"at all. The newest load of a key counts, and in one file the later of two lines.\n" +
		"Persons are stored as pseudonyms, which takes the key: --person-key, else person.key in --data.\n\n" +
		"The kinds, with a * at the columns a file must have:")
	for _, k := range schema.ReferenceKinds() {
		fmt.Fprintf(&b, "\n\n%s  %s", k.Name, k.Meaning)
		for _, c := range k.Columns {
			star := " "
			if c.Required {
				star = "*"
			}
			fmt.Fprintf(&b, "\n  %s %-13s %s", star, c.Name, c.Meaning)
		}
	}
	return b.String()
}

func loadReference(ctx context.Context, cmd *cli.Command) error {
	if cmd.Args().Len() != 2 {
		return usageErrorf("reference load takes a kind and a file, got %d arguments", cmd.Args().Len())
	}
	name, path := cmd.Args().Get(0), cmd.Args().Get(1)
	kinds := schema.ReferenceKinds()
	at := slices.IndexFunc(kinds, func(k schema.ReferenceKind) bool { return k.Name == name })
	if at < 0 {
		var names []string
		for _, k := range kinds {
			names = append(names, k.Name)
		}
		return usageErrorf("there is no kind %q of reference data, only %s", name, strings.Join(names, ", "))
	}
	key, err := schema.LoadPersonKey(personKeyPath(cmd))
	switch {
	// Exemptions name a person now and then; LoadReference says when.
	case errors.Is(err, fs.ErrNotExist) && !kinds[at].Persons() && cmd.String("person-key") == "":
		key = nil
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("%w: it must be the key the ingester uses; give it with --person-key", err)
	case err != nil:
		return err
	}
	r, err := openReference(cmd, path)
	if err != nil {
		return err
	}
	defer r.Close()
	conn, err := openClickHouse(ctx, cmd)
	if err != nil {
		return err
	}
	defer conn.Close()
	report, err := schema.LoadReference(ctx, conn, name, r, key, time.Now())
	var faults *schema.ReferenceError
	if errors.As(err, &faults) {
		fmt.Fprintln(cmd.Root().ErrWriter, faults.Error())
		return fmt.Errorf("load %s from %s: %d faults, nothing was loaded", name, path, faults.Total)
	}
	if err != nil {
		return err
	}
	fmt.Fprintf(cmd.Root().Writer, "loaded %d rows of %s\n", report.Rows, name)
	if len(report.Ignored) > 0 {
		fmt.Fprintf(cmd.Root().Writer, "ignored %d columns that %s does not have: %s\n", len(report.Ignored), name, printable(strings.Join(report.Ignored, ", "), 400))
	}
	return nil
}

// openReference opens a file, or standard input for "-", and looks through gzip
// and Zstandard.
func openReference(cmd *cli.Command, path string) (io.ReadCloser, error) {
	in := io.NopCloser(cmd.Root().Reader)
	if path != "-" {
		f, err := os.Open(path)
		if err != nil {
			return nil, err
		}
		in = f
	}
	plain, err := decompress(bufio.NewReaderSize(in, 256<<10))
	if err != nil {
		_ = in.Close() // the first error says more
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	return &layered{plain, in}, nil
}

// layered closes what unpacks, then what is unpacked.
type layered struct {
	io.ReadCloser
	below io.Closer
}

func (l *layered) Close() error { return errors.Join(l.ReadCloser.Close(), l.below.Close()) }
