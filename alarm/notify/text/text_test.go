package text_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/voltageems/voltage/alarm/notify"
	"github.com/voltageems/voltage/alarm/notify/text"
	"github.com/voltageems/voltage/model"
)

func TestTemplates(t *testing.T) {
	t.Parallel()
	texts, err := text.New("{{.Severity}}\n {{.Message}}", "{{range .Messages}}{{.Message}};{{end}}{{if not .Messages}}{{.Value}}{{end}}")
	require.NoError(t, err)
	subject, body, err := texts.Render(notify.Samples()[0])
	require.NoError(t, err)
	require.Equal(t, "critical Battery is too hot", subject, "in one line")
	require.Equal(t, "61.2", body)
	for bad, want := range map[[2]string]string{
		{"", "b"}: "subject: missing", {"a", " "}: "body: missing", {"{{", "b"}: "subject: ", {"a", "{{.Nothing}}"}: "body: ",
		{"a", "{{index .Messages 0}}"}: "body: ", {`{{define "x"}}{{template "x"}}{{end}}{{template "x"}}`, "b"}: "subject: ",
		{"a", strings.Repeat("{{.Message}}", 10_000)}: "it makes more than 64 KiB",
	} {
		_, err := text.New(bad[0], bad[1])
		require.ErrorIs(t, err, model.ErrInvalid, bad)
		require.ErrorContains(t, err, want)
	}
}
