// Package text makes the texts of notifications from templates of package
// text/template, which see a notify.Message:
//
//	subject: "{{.Severity}}: {{.Model}}.{{.Point}}"
//	body: "{{.Message}} at {{.Time}}{{range .Messages}}\n{{.Message}}{{end}}"
//
// It is apart from package notify because text/template makes a firmware larger
// by 6 MB.
package text

import (
	"errors"
	"fmt"
	"strings"
	"text/template"

	"github.com/voltageems/voltage/alarm/notify"
	"github.com/voltageems/voltage/model"
)

// maxText bounds what a template may make.
const maxText = 64 << 10

// New returns the texts that the templates make. Both are tried with messages of
// every form. Errors wrap model.ErrInvalid and begin with subject or body.
func New(subject, body string) (notify.Texts, error) {
	var t texts
	var err error
	for _, part := range []struct {
		name, text string
		to         **template.Template
	}{{"subject", subject, &t.subject}, {"body", body, &t.body}} {
		if strings.TrimSpace(part.text) == "" {
			return nil, fmt.Errorf("%w: %s: missing", model.ErrInvalid, part.name)
		}
		if *part.to, err = template.New(part.name).Parse(part.text); err != nil {
			return nil, fmt.Errorf("%w: %s: %w", model.ErrInvalid, part.name, err)
		}
	}
	for _, m := range notify.Samples() {
		if _, _, err := t.Render(m); err != nil {
			return nil, fmt.Errorf("%w: %w", model.ErrInvalid, err)
		}
	}
	return t, nil
}

type texts struct{ subject, body *template.Template }

// Render implements notify.Texts.
func (t texts) Render(m notify.Message) (subject, body string, err error) {
	if subject, err = execute(t.subject, m); err != nil {
		return "", "", fmt.Errorf("subject: %w", err)
	}
	if body, err = execute(t.body, m); err != nil {
		return "", "", fmt.Errorf("body: %w", err)
	}
	return strings.Join(strings.Fields(subject), " "), body, nil
}

func execute(t *template.Template, m notify.Message) (string, error) {
	var b bounded
	err := t.Execute(&b, m)
	return b.String(), err
}

// bounded fails when it gets too much.
type bounded struct{ strings.Builder }

func (b *bounded) Write(p []byte) (int, error) {
	if b.Len()+len(p) > maxText {
		return 0, errors.New("it makes more than 64 KiB")
	}
	return b.Builder.Write(p)
}

// Kind lets configuration files have templates of their own.
func Kind() notify.Kind { return notify.Kind{Name: "text", Texts: New} }
