package schema_test

import (
	"bytes"
	"fmt"
	"testing"

	"yaosu/loadtest/town"
	"yaosu/schema"
)

// counterSales are sales as a till sends them: one box each, 17 fields.
func counterSales() []schema.Scan {
	var sold []schema.Scan
	for _, e := range town.Make(1, town.Usual()).Events {
		if e.Kind != schema.Sale || len(e.Codes) == 0 {
			continue
		}
		n := len(sold)
		e.Codes = []string{fmt.Sprintf("8%07d%012d", n%900, n)}
		e.Device = "POS" + fmt.Sprint(n%4)
		e.Operator = fmt.Sprint("op", n%40)
		e.Lot = fmt.Sprint("L", n%300)
		e.Quantity, e.Price, e.FundPay = schema.Whole(1), schema.Number{Micro: 12_340_000, Known: true}, schema.Number{Micro: 9_800_000, Known: true}
		e.Pay, e.Setting, e.Credential = schema.PayInsured, schema.SettingPharmacy, schema.CredentialECard
		e.Settlement = fmt.Sprint("S", n/2)
		e.Doc = fmt.Sprint("D", n/2)
		sold = append(sold, e)
		if len(sold) == 8192 {
			break
		}
	}
	return sold
}

func BenchmarkAddArrow(b *testing.B) {
	events := counterSales()
	for _, c := range []struct {
		name string
		opts schema.ArrowOptions
	}{
		{"dictionaries", schema.ArrowOptions{Dictionary: true}},
		{"dictionaries, lz4", schema.ArrowOptions{Dictionary: true, Compression: schema.ArrowLZ4}},
		{"dictionaries, zstd", schema.ArrowOptions{Dictionary: true, Compression: schema.ArrowZstd}},
		{"text", schema.ArrowOptions{}},
	} {
		b.Run(c.name, func(b *testing.B) {
			var message bytes.Buffer
			if err := schema.WriteArrow(&message, events, c.opts); err != nil {
				b.Fatal(err)
			}
			classify := schema.NewClassifier(nil)
			block := benchBlock(b, classify)
			rows := 0
			b.ReportAllocs()
			for b.Loop() {
				block.Reset(classify)
				m, refusal := schema.OpenArrow(message.Bytes())
				if refusal != nil {
					b.Fatal(refusal)
				}
				m.Add(block, 0, m.Rows(), 1, received, func(position int, raw []byte, _ *schema.Scan, why schema.Refusal) {
					b.Fatalf("row %d refused: %v: %s", position, why, raw)
				})
				rows += block.Rows()
			}
			reportRows(b, rows, message.Len()/len(events))
		})
	}
}

// The same events as JSON, to compare with.
func BenchmarkAddJSON(b *testing.B) {
	events := counterSales()
	var lines [][]byte
	size := 0
	for i := range events {
		lines = append(lines, events[i].AppendJSON(nil))
		size += len(lines[i])
	}
	classify := schema.NewClassifier(nil)
	block := benchBlock(b, classify)
	var decoder schema.Decoder
	rows := 0
	b.ReportAllocs()
	for b.Loop() {
		block.Reset(classify)
		for _, line := range lines {
			s, refusal := decoder.Decode(line)
			if refusal != nil {
				b.Fatal(refusal)
			}
			block.Add(s, 1, received)
		}
		rows += block.Rows()
	}
	reportRows(b, rows, size/len(events))
}

func benchBlock(b *testing.B, classify *schema.Classifier) *schema.Block {
	b.Helper()
	key, err := schema.NewPersonKey([]byte("a key for tests, thirty-two bytes"))
	if err != nil {
		b.Fatal(err)
	}
	return schema.NewBlock(schema.NewPeople(key), classify)
}

func reportRows(b *testing.B, rows, size int) {
	b.Helper()
	b.ReportMetric(float64(rows)/b.Elapsed().Seconds(), "rows/s")
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(rows), "ns/row")
	b.ReportMetric(float64(size), "B/event")
}
