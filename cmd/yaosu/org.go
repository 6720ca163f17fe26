package main

import (
	"context"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/urfave/cli/v3"

	"yaosu/gate/sender"
	"yaosu/schema"
)

func orgCommand() *cli.Command {
	return &cli.Command{
		Name:  "org",
		Usage: "gives and takes credentials (凭证): who may publish and ask for which institutions",
		Description: "A credential is for an institution, for a software vendor or hospital group with a list of\n" +
			"institutions, or for analysts who read. The same one serves HTTP and NATS.\n\n" +
			"With the first one `yaosu up` shuts: who has none can do nothing any more. Its own tools go\n" +
			"on, by what endpoints.json says.\n\n" +
			"Example:\n" +
			"  yaosu org add renmin --org P53090200417:530902",
		Commands: []*cli.Command{orgAddCommand(), orgListCommand(), orgRevokeCommand(), orgKeyCommand()},
	}
}

func orgAddCommand() *cli.Command {
	return &cli.Command{
		Name:      "add",
		Usage:     "makes a credential, or adds institutions to one; prints its token once",
		ArgsUsage: "NAME",
		Description: "NAME is yours to choose, of letters, digits, _ and -. Only a digest of the token is kept, so\n" +
			"nobody can show it again: a lost one is replaced with --new-token, which refuses the old one\n" +
			"at once and leaves the institutions as they are.\n\n" +
			"A client certificate can be bound too, that very one or (--by-subject) each with its subject\n" +
			"from an authority that your gate trusts; the second outlives its renewal.\n\n" +
			"What to tell the vendor stands in docs/credentials.md.\n\n" +
			"Examples:\n" +
			"  yaosu org add renmin --org P53090200417:530902\n" +
			"  yaosu org add softco --org P42010600012:420106 --org H42010600001:420106 --out softco.token\n" +
			"  yaosu org add group --org H42010600001:420106 --certificate group.crt --by-subject --no-token\n" +
			"  yaosu org add bureau --reads\n" +
			"  yaosu org add softco --new-token",
		Flags: []cli.Flag{
			&cli.StringSliceFlag{Name: "org", Usage: "`ORG:REGION` it may speak for, the institution and its six-digit region; several by repeating"},
			&cli.BoolFlag{Name: "reads", Usage: "it may read the life of any code (GET /v1/codes)"},
			&cli.StringFlag{Name: "certificate", Usage: "`FILE` in PEM with a client certificate to bind"},
			&cli.BoolFlag{Name: "by-subject", Usage: "bind the subject of that certificate in the place of its fingerprint"},
			&cli.BoolFlag{Name: "no-token", Usage: "no token: the certificate alone is the credential"},
			&cli.BoolFlag{Name: "new-token", Usage: "a new token in the place of the one there is"},
			&cli.StringFlag{Name: "out", Usage: "write the token to a new `FILE` for its owner alone, and do not print it"},
		},
		Action: addOrg,
	}
}

func addOrg(ctx context.Context, cmd *cli.Command) (err error) {
	grant, err := grantOf(cmd)
	if err != nil {
		return err
	}
	var token string
	var file *os.File
	if path := cmd.String("out"); path != "" {
		// First: a token that cannot be written would be lost.
		if file, err = os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600); err != nil {
			return fmt.Errorf("make the file for the token: %w", err)
		}
		defer func() {
			if err = errors.Join(err, file.Close()); err != nil || token == "" {
				_ = os.Remove(path)
			}
		}()
	}
	register, closeNATS, err := openRegister(ctx, cmd)
	if err != nil {
		return err
	}
	defer closeNATS()
	before, err := register.List(ctx)
	if err != nil {
		return err
	}
	var added sender.Credential
	if token, added, err = register.Add(ctx, grant); err != nil {
		return err
	}
	out := cmd.Root().Writer
	fmt.Fprintf(out, "凭证 %s:%s\n", added.Name, rights(added))
	switch {
	case token == "" && added.Token == "":
		fmt.Fprintln(out, "没有令牌,凭客户端证书使用。")
	case token == "":
		fmt.Fprintln(out, "令牌未变动;遗失或泄露时用 --new-token 换发。")
	case file != nil:
		if _, err := fmt.Fprintln(file, token); err != nil {
			return fmt.Errorf("write the token (make another with --new-token): %w", err)
		}
		fmt.Fprintf(out, "令牌已写入 %s,仅本人可读;系统只存摘要,遗失须换发(--new-token)。\n", file.Name())
	default:
		fmt.Fprintf(out, "令牌(仅显示这一次,系统只存摘要):\n\n  %s\n\n", token)
	}
	if len(before) == 0 {
		fmt.Fprintln(out, "这是第一个凭证:从现在起,没有凭证的不能再上传或查询(以 --senders open 启动的除外)。")
	}
	if added.Token != "" {
		fmt.Fprintf(out, "HTTP:请求头 Authorization: Bearer 令牌\nNATS:用户名 %s,密码填令牌,收件箱前缀 %s\n", added.Name, sender.InboxPrefix(added.Name))
	}
	return nil
}

// grantOf is what the command line grants.
func grantOf(cmd *cli.Command) (g sender.Grant, err error) {
	if g.Name, err = oneName(cmd); err != nil {
		return g, err
	}
	if g.Orgs, err = orgsOf(cmd.StringSlice("org")); err != nil {
		return g, err
	}
	g.Reads, g.NewToken, g.NoToken = cmd.Bool("reads"), cmd.Bool("new-token"), cmd.Bool("no-token")
	path := cmd.String("certificate")
	switch {
	case path == "" && (cmd.Bool("by-subject") || g.NoToken):
		return g, usageErrorf("--by-subject and --no-token need --certificate")
	case g.NoToken && (g.NewToken || cmd.String("out") != ""):
		return g, usageErrorf("--no-token makes none: leave out --new-token and --out")
	case path == "":
		return g, nil
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return g, fmt.Errorf("read the certificate: %w", err)
	}
	block, _ := pem.Decode(text)
	if block == nil || block.Type != "CERTIFICATE" {
		return g, fmt.Errorf("read the certificate: %s holds none in PEM", path)
	}
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return g, fmt.Errorf("read the certificate: %w", err)
	}
	bound := sender.Fingerprint(cert)
	if cmd.Bool("by-subject") {
		bound = sender.Subject(cert)
	}
	g.Certs = []sender.Certificate{bound}
	return g, nil
}

// orgsOf reads institutions as they are given to org add.
func orgsOf(words []string) (map[string]string, error) {
	orgs := map[string]string{}
	for _, word := range words {
		org, region, found := strings.Cut(strings.TrimSpace(word), ":")
		if !found || !schema.ValidOrg(org) || !schema.ValidRegion(region) {
			return nil, usageErrorf("--org %q: want ORG:REGION (机构编号:六位区划), such as P53090200417:530902", word)
		}
		if other, twice := orgs[org]; twice && other != region {
			return nil, usageErrorf("--org %s is given with two regions, %s and %s", org, other, region)
		}
		orgs[org] = region
	}
	return orgs, nil
}

func oneName(cmd *cli.Command) (string, error) {
	if cmd.Args().Len() != 1 {
		return "", usageErrorf("%s needs one NAME, got %d", cmd.FullName(), cmd.Args().Len())
	}
	return cmd.Args().First(), nil
}

// openRegister opens the credentials at NATS; the caller calls closeNATS.
func openRegister(ctx context.Context, cmd *cli.Command) (register *sender.Register, closeNATS func(), err error) {
	js, err := openJetStream(ctx, cmd)
	if err != nil {
		return nil, nil, err
	}
	replicas := 1
	if stream, err := js.Stream(ctx, schema.StreamScans); err == nil {
		replicas = stream.CachedInfo().Config.Replicas // as safe as the scans
	} else if !errors.Is(err, jetstream.ErrStreamNotFound) {
		js.Conn().Close()
		return nil, nil, fmt.Errorf("look at stream %s (credentials are made by who runs the system, not by who holds one): %w", schema.StreamScans, err)
	}
	if register, err = sender.Open(ctx, js, replicas); err != nil {
		js.Conn().Close()
		return nil, nil, err
	}
	return register, js.Conn().Close, nil
}

// rights is what c may do, for eyes.
func rights(c sender.Credential) string {
	var words []string
	switch orgs := slices.Sorted(maps.Keys(c.Orgs)); {
	case len(orgs) > 3:
		words = append(words, fmt.Sprintf("可代表 %d 家机构上传和查询", len(orgs)))
	case len(orgs) > 0:
		for i, org := range orgs {
			orgs[i] = org + "(" + c.Orgs[org] + ")"
		}
		words = append(words, "可代表 "+strings.Join(orgs, "、")+" 上传和查询")
	}
	if c.Reads {
		words = append(words, "可查追溯码流向")
	}
	return strings.Join(words, ",")
}

func orgListCommand() *cli.Command {
	return &cli.Command{
		Name:  "list",
		Usage: "lists the credentials and what each may do",
		Description: "Tokens are not among it: only their digests are kept. In ndjson every institution is named.\n\n" +
			"Examples:\n" +
			"  yaosu org list\n" +
			"  yaosu org list --all --format ndjson",
		Flags: []cli.Flag{
			&cli.BoolFlag{Name: "all", Usage: "revoked ones too"},
			&cli.StringFlag{Name: "format", Usage: "table or ndjson", Value: "table", Validator: oneOf("table", "ndjson")},
		},
		Action: listOrgs,
	}
}

func listOrgs(ctx context.Context, cmd *cli.Command) error {
	if err := noArguments(cmd); err != nil {
		return err
	}
	register, closeNATS, err := openRegister(ctx, cmd)
	if err != nil {
		return err
	}
	defer closeNATS()
	list, err := register.List(ctx)
	if err != nil {
		return err
	}
	if !cmd.Bool("all") {
		list = slices.DeleteFunc(list, func(c sender.Credential) bool { return !c.Revoked.IsZero() })
	}
	out := cmd.Root().Writer
	if cmd.String("format") == "ndjson" {
		return writeOrgs(out, list)
	}
	t := newTable(out, "名称", "权限", "方式", "建立", "吊销")
	for _, c := range list {
		revoked := ""
		if !c.Revoked.IsZero() {
			revoked = clock(c.Revoked)
		}
		t.AppendRow([]any{c.Name, rights(c), strings.Join(ways(c), "、"), clock(c.Created), revoked})
	}
	t.Render()
	fmt.Fprintf(out, "%d 个凭证\n", len(list))
	return nil
}

// ways are how the holder of c may show it.
func ways(c sender.Credential) (words []string) {
	if c.Token != "" {
		words = append(words, "令牌")
	}
	for _, cert := range c.Certs {
		if cert.Subject != "" {
			words = append(words, "证书主题 "+printable(cert.Subject, 40))
		} else {
			words = append(words, "证书 "+cert.Fingerprint[:16]+"…")
		}
	}
	return words
}

// writeOrgs writes one JSON object a credential, without the digest of its token.
func writeOrgs(out io.Writer, list []sender.Credential) error {
	type line struct {
		Name    string               `json:"name"`
		Orgs    map[string]string    `json:"orgs"`
		Reads   bool                 `json:"reads"`
		Token   bool                 `json:"token"`
		Certs   []sender.Certificate `json:"certificates,omitempty"`
		Created time.Time            `json:"created"`
		Revoked time.Time            `json:"revoked,omitzero"`
	}
	encoder := json.NewEncoder(out)
	for _, c := range list {
		if err := encoder.Encode(line{c.Name, c.Orgs, c.Reads, c.Token != "", c.Certs, c.Created, c.Revoked}); err != nil {
			return fmt.Errorf("write the list: %w", err)
		}
	}
	return nil
}

func orgRevokeCommand() *cli.Command {
	return &cli.Command{
		Name:      "revoke",
		Usage:     "takes a credential back, or some of its institutions",
		ArgsUsage: "NAME",
		Description: "It is refused over HTTP at once; connections to NATS that it let in are ended within two\n" +
			"seconds. Where neither `yaosu up` nor a `yaosu gate` runs nobody new is let in, and who is\n" +
			"connected stays until one runs, at most nine hours. What was published before stays.\n\n" +
			"Examples:\n" +
			"  yaosu org revoke softco\n" +
			"  yaosu org revoke softco --org P42010600012",
		Flags: []cli.Flag{
			&cli.StringSliceFlag{Name: "org", Usage: "only this institution `ORG` of it; several by repeating"},
		},
		Action: revokeOrg,
	}
}

func revokeOrg(ctx context.Context, cmd *cli.Command) error {
	name, err := oneName(cmd)
	if err != nil {
		return err
	}
	register, closeNATS, err := openRegister(ctx, cmd)
	if err != nil {
		return err
	}
	defer closeNATS()
	c, err := register.Revoke(ctx, name, cmd.StringSlice("org")...)
	if errors.Is(err, sender.ErrUnknown) {
		return fmt.Errorf("revoke %s: %w: `yaosu org list` names those there are", name, sender.ErrUnknown)
	}
	if err != nil {
		return err
	}
	out := cmd.Root().Writer
	if c.Revoked.IsZero() {
		fmt.Fprintf(out, "凭证 %s:%s\n", c.Name, rights(c))
		return nil
	}
	fmt.Fprintf(out, "凭证 %s 已于 %s 吊销。此前上传的数据不受影响;若令牌曾泄露,请按运维手册核对。\n", c.Name, clock(c.Revoked))
	return nil
}

func orgKeyCommand() *cli.Command {
	return &cli.Command{
		Name:  "key",
		Usage: "prints what a NATS of your own needs to ask who connects",
		Description: "`yaosu up` needs none of it. Three public keys, for the environment of nats-server and the\n" +
			"lines in deploy/nats/nats-server.conf. They follow from one secret, which every `yaosu gate`\n" +
			"needs (--senders-key): 64 hex digits in a file, made when it is missing.\n\n" +
			"Example:\n" +
			"  yaosu org key --senders-key /etc/yaosu/senders.key >> /etc/nats/nats.env",
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "senders-key", Usage: "`FILE` with the secret (default: " + sendersKeyFile + " in --data)"},
		},
		Action: printOrgKey,
	}
}

func printOrgKey(_ context.Context, cmd *cli.Command) error {
	if err := noArguments(cmd); err != nil {
		return err
	}
	path := sendersKeyPath(cmd)
	key, err := sender.LoadOrCreateKey(path)
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%w: name a directory that is there with --senders-key", err)
	}
	if err != nil {
		return err
	}
	fmt.Fprintf(cmd.Root().Writer, "NATS_ISSUER=%s\nNATS_CIPHER=%s\nNATS_SYSTEM=%s\n", key.Issuer, key.Cipher, key.System)
	return nil
}
