package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/urfave/cli/v3"

	"yaosu/gate"
	"yaosu/gate/check"
	"yaosu/ingest"
	"yaosu/schema"
)

// newChecker makes the one that answers checks; dir is where it keeps its index.
func newChecker(dir string, conn *schema.Conn, js jetstream.JetStream, key *schema.PersonKey, log *slog.Logger) (*check.Checker, error) {
	return check.New(check.Config{
		Dir:        dir,
		Conn:       conn,
		JS:         js,
		StoredUpTo: func(ctx context.Context) (uint64, error) { return ingest.StoredUpTo(ctx, js, "") },
		Key:        key,
		Log:        log.With("part", "check"),
	})
}

const checkTime = 5 * time.Second

func checkCommand() *cli.Command {
	return &cli.Command{
		Name:      "check",
		Usage:     "asks whether boxes may be sold to the fund now, before they are settled",
		ArgsUsage: "CODE...",
		Description: "The codes are those of one line of a receipt. The answer is pass, warn (no item code, or not\n" +
			"everything could be asked) or stop (the sale would be a finding), the worst of all codes first.\n" +
			"It is asked over NATS, or over HTTP with --http. Nothing is recorded.\n\n" +
			"The exit status is 0 whatever the answer, unless there is none.\n\n" +
			"Examples:\n" +
			"  yaosu check 81234567890123456789 --org P53010200001 --region 530102\n" +
			"  yaosu check 81234567890123456789 --org P53010200001 --region 530102 --split --quantity 6 --format json\n" +
			"  yaosu check '(01)06901234567892(21)A1B2C3' --org P53010200001 --region 530102 --http http://127.0.0.1:8686",
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "org", Usage: "institution `O` that is about to sell", Required: true},
			&cli.StringFlag{Name: "region", Usage: "its county `R`, 6 digits", Required: true},
			&cli.StringFlag{Name: "person", Usage: "`NUMBER` of the insured person"},
			&cli.StringFlag{Name: "settlement", Usage: "`ID` of the settlement, if there is one: trying it again is no second sale"},
			&cli.StringFlag{Name: "drug", Usage: "catalogue code of the `DRUG` billed"},
			&cli.BoolFlag{Name: "split", Usage: "part of a pack is dispensed"},
			&cli.FloatFlag{Name: "quantity", Usage: "`N` smallest packs, or units with --split (default: one pack a code)"},
			&cli.StringFlag{Name: "http", Usage: "ask over HTTP at `URL`, such as http://host:8686"},
			&cli.StringFlag{Name: "token-file", Usage: "`FILE` with the credential for --http"},
			&cli.StringFlag{Name: "format", Usage: "table or json", Value: "table", Validator: oneOf("table", "json")},
		},
		Action: checkAction,
	}
}

func checkAction(ctx context.Context, cmd *cli.Command) error {
	if !cmd.Args().Present() {
		return usageErrorf("yaosu check needs at least one CODE; put a code with brackets or blanks in quotes")
	}
	q := gate.CheckRequest{
		Codes:      cmd.Args().Slice(),
		Org:        cmd.String("org"),
		Region:     cmd.String("region"),
		Person:     cmd.String("person"),
		Settlement: cmd.String("settlement"),
		Drug:       cmd.String("drug"),
		Split:      cmd.Bool("split"),
	}
	if cmd.IsSet("quantity") {
		quantity := cmd.Float("quantity")
		q.Quantity = &quantity
	}
	body, err := json.Marshal(q)
	if err != nil {
		return err
	}
	// Before it becomes part of a subject or is sent anywhere.
	if err := q.Validate(); err != nil {
		return usageErrorf("%s", err)
	}
	ask := askNATS
	if cmd.String("http") != "" {
		ask = askHTTP
	}
	ctx, cancel := context.WithTimeout(ctx, checkTime)
	defer cancel()
	answer, err := ask(ctx, cmd, &q, body)
	if err != nil {
		return err
	}
	var reply gate.CheckReply
	if err := json.Unmarshal(answer, &reply); err != nil {
		return fmt.Errorf("read the answer: %w", err)
	}
	if cmd.String("format") == "json" {
		_, err := fmt.Fprintf(cmd.Root().Writer, "%s\n", bytes.TrimSpace(answer))
		return err
	}
	writeCheck(cmd.Root().Writer, &reply)
	return nil
}

func askNATS(ctx context.Context, cmd *cli.Command, q *gate.CheckRequest, body []byte) ([]byte, error) {
	js, err := openJetStream(ctx, cmd)
	if err != nil {
		return nil, err
	}
	defer js.Conn().Close()
	m, err := js.Conn().RequestWithContext(ctx, schema.CheckSubject(q.Region, q.Org), body)
	switch {
	case errors.Is(err, nats.ErrNoResponders):
		return nil, errors.New("nobody answers checks there: start `yaosu up` or `yaosu gate`")
	case err != nil:
		return nil, fmt.Errorf("ask over NATS: %w", err)
	case m.Header.Get(schema.HeaderError) != "":
		return nil, refusedCheck(m.Data)
	}
	return m.Data, nil
}

func askHTTP(ctx context.Context, cmd *cli.Command, _ *gate.CheckRequest, body []byte) ([]byte, error) {
	url := strings.TrimSuffix(cmd.String("http"), "/") + "/v1/check"
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(body))
	if err != nil {
		return nil, usageErrorf("--http %s: want an address such as http://host:8686", redacted(cmd.String("http")))
	}
	request.Header.Set("Content-Type", "application/json")
	if path := cmd.String("token-file"); path != "" {
		token, err := os.ReadFile(path)
		if err != nil {
			return nil, fmt.Errorf("read the credential: %w", err)
		}
		request.Header.Set("Authorization", "Bearer "+strings.TrimSpace(string(token)))
	}
	answer, err := http.DefaultClient.Do(request)
	if err != nil {
		return nil, fmt.Errorf("ask over HTTP: %w", err)
	}
	defer answer.Body.Close()
	said, err := io.ReadAll(io.LimitReader(answer.Body, 8<<20))
	if err != nil {
		return nil, fmt.Errorf("read the answer: %w", err)
	}
	if answer.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s: %w", answer.Status, refusedCheck(said))
	}
	return said, nil
}

// refusedCheck is what a problem says.
func refusedCheck(body []byte) error {
	var problem struct{ Detail string }
	if err := json.Unmarshal(body, &problem); err != nil || problem.Detail == "" {
		return errors.New("the check was refused")
	}
	return fmt.Errorf("the check was refused: %s", problem.Detail)
}

// decisionWords are what a pharmacist reads.
var decisionWords = map[string]string{gate.Pass: "可以结算", gate.Warn: "请核对", gate.Stop: "不可结算"}

func writeCheck(out io.Writer, reply *gate.CheckReply) {
	fmt.Fprintf(out, "%s(%s)", decisionWords[reply.Decision], reply.Decision)
	if reply.Degraded {
		fmt.Fprint(out, "，未能完整核对")
	}
	fmt.Fprintf(out, "，用时 %.2f 毫秒\n", reply.TookMs)
	t := newTable(out, "追溯码", "类型", "结论", "原因", "最近一次售出")
	for _, c := range reply.Codes {
		var reasons []string
		for _, r := range c.Reasons {
			reasons = append(reasons, r.Text)
		}
		last := ""
		if c.Last != nil {
			last = clock(c.Last.Time) + " 其他机构 " + c.Last.Region
			if c.Last.Own {
				last = clock(c.Last.Time) + " 本机构"
			}
		}
		t.AppendRow(table.Row{printable(c.Code, 100), schemeWords[schema.Scheme(c.Scheme)], decisionWords[c.Decision], strings.Join(reasons, "；"), last})
	}
	t.Render()
}
