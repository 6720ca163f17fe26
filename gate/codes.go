package gate

import (
	"context"
	"net/http"
	"strings"
	"time"

	"yaosu/schema"
)

// lifeTime bounds how long the life of a code is looked for.
const lifeTime = 20 * time.Second

// lifeAnswer is the answer of GET /v1/codes/{code}: what `yaosu trace` tells.
type lifeAnswer struct {
	Code     codeAnswer           `json:"code"`
	Events   []schema.LifeStep    `json:"events"`
	Suspects []schema.CodeSuspect `json:"suspects"`
}

type codeAnswer struct {
	Raw    string `json:"raw"`
	Scheme string `json:"scheme"`
	Key    string `json:"key"` // empty for what is no item code; it is looked up as it was read
}

// life is GET /v1/codes/{code}.
func (d *door) life(c *call) error {
	raw := c.r.PathValue("code")
	if strings.TrimSpace(raw) == "" {
		return problemf(problemRequest, "请在地址中给出追溯码。")
	}
	leave, err := d.enter(c)
	if err != nil {
		return err
	}
	defer leave()
	ctx, cancel := context.WithTimeout(c.r.Context(), lifeTime)
	defer cancel()
	code := schema.NewClassifier(nil).Classify(raw, c.r.URL.Query().Get("drug"))
	life, err := schema.ReadLife(ctx, d.Lives, code)
	if err != nil {
		return &problem{code: problemAway, retry: 5 * time.Second, cause: err}
	}
	suspects, err := life.Suspects(ctx, d.Lives)
	if err != nil {
		return &problem{code: problemAway, retry: 5 * time.Second, cause: err}
	}
	if life.Steps == nil {
		life.Steps = []schema.LifeStep{}
	}
	// Who read what is for those who watch the readers.
	d.Log.Info("the life of a code was read", "request", c.id, "sender", c.name(), "code", code.Key, "events", len(life.Steps))
	return c.answer(http.StatusOK, lifeAnswer{
		Code:     codeAnswer{Raw: raw, Scheme: string(code.Scheme), Key: code.Key},
		Events:   life.Steps,
		Suspects: suspects,
	})
}
