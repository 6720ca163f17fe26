package main

import (
	"context"
	"fmt"
	"log/slog"
	"net/url"
	"path/filepath"
	"strings"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/urfave/cli/v3"

	"yaosu/gate/sender"
)

// sendersKeyFile is what `yaosu up` keeps in its directory.
const sendersKeyFile = "senders.key"

// sendersFlag says who may speak without a credential.
func sendersFlag(usage string) cli.Flag {
	return &cli.StringFlag{
		Name:      "senders",
		Usage:     usage,
		Value:     string(sender.Auto),
		Validator: oneOf(string(sender.Auto), string(sender.Anyone), string(sender.Strict)),
	}
}

// sendersMode is what it says.
func sendersMode(cmd *cli.Command) sender.Mode { return sender.Mode(cmd.String("senders")) }

// sendersKeyPath is --senders-key where a verb has it, else the one of `yaosu up`.
func sendersKeyPath(cmd *cli.Command) string {
	if path := cmd.String("senders-key"); path != "" {
		return path
	}
	return filepath.Join(cmd.String("data"), sendersKeyFile)
}

// watchSenders opens the credentials and follows them until ctx ends.
func watchSenders(ctx context.Context, js jetstream.JetStream, replicas int, mode sender.Mode, log *slog.Logger) (*sender.Directory, error) {
	register, err := sender.Open(ctx, js, replicas)
	if err != nil {
		return nil, err
	}
	return sender.Watch(ctx, register, mode, log)
}

// answerNATS tells the NATS at url who a new connection is, from when it returns.
// The caller runs the Callout, and closes the connection to the system account
// after it.
func answerNATS(address string, parts *nats.Conn, key *sender.Key, directory *sender.Directory, log *slog.Logger) (*sender.Callout, *nats.Conn, error) {
	system, err := nats.Connect(bare(address), nats.Name("yaosu senders"), nats.Timeout(connectTimeout),
		nats.MaxReconnects(-1), nats.IgnoreAuthErrorAbort(), key.AsSystem())
	if err != nil {
		return nil, nil, fmt.Errorf("reach the system account of NATS at %s: %w; are the keys in its configuration those of `yaosu org key`?", redacted(address), err)
	}
	callout, err := sender.NewCallout(sender.CalloutConfig{Conn: parts, System: system, Key: key, Directory: directory, Log: log})
	if err != nil {
		system.Close()
		return nil, nil, err
	}
	return callout, system, nil
}

// bare is an address of NATS, or several with commas between, without users.
func bare(addresses string) string {
	list := strings.Split(addresses, ",")
	for i, address := range list {
		if u, err := url.Parse(strings.TrimSpace(address)); err == nil {
			u.User = nil
			list[i] = u.String()
		}
	}
	return strings.Join(list, ",")
}

// withParts is the address of a NATS of ours with the credential of our parts.
func withParts(address string, key *sender.Key) string {
	u, err := url.Parse(address)
	if err != nil {
		return address
	}
	u.User = url.UserPassword(sender.PartsUser, key.Password)
	return u.String()
}

// senderOf is the name in an address of NATS that comes with the token of a
// sender, nats://NAME:TOKEN@host.
func senderOf(address string) (name string, ok bool) {
	u, err := url.Parse(address)
	if err != nil {
		return "", false
	}
	token, given := u.User.Password()
	return u.User.Username(), given && sender.IsToken(token)
}
