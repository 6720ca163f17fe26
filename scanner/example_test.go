package scanner_test

import (
	"context"
	"fmt"
	"log"
	"os"

	"yaosu/scanner"
)

// A till stores each sale and goes on selling; Run sends them in the background. Here
// the network is away, so the sale waits.
func Example() {
	dir, err := os.MkdirTemp("", "till-")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)

	spool, err := scanner.Open(scanner.SpoolConfig{
		Dir:  dir,
		NATS: "nats://127.0.0.1:1", // with nats.UserInfo and nats.CustomInboxPrefix in Options for a credential
	})
	if err != nil {
		log.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error)
	go func() { ended <- spool.Run(ctx) }()

	sale := `{"event_id":"R1","kind":"sale","time":"2026-03-02T10:21:35+08:00","org":"P33010600001","region":"330106",` +
		`"codes":["81234567890123456789"],"settlement":"S88120","fund_pay":9.8}`
	if err := spool.Publish(ctx, []byte(sale)); err != nil {
		log.Fatal(err) // errors.Is(err, scanner.ErrFull): tell the pharmacist, and try again
	}
	fmt.Println("events that wait:", spool.Status().Pending)

	stop()
	if err := <-ended; err != nil {
		log.Fatal(err)
	}
	if err := spool.Close(); err != nil { // the sale stays on disk, for the next Open
		log.Fatal(err)
	}
	// Output: events that wait: 1
}
