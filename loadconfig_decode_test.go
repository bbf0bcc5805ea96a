package voltage

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.yaml.in/yaml/v3"

	"github.com/voltageems/voltage/channel"
	"github.com/voltageems/voltage/model"
)

// loadBaud decodes itself, as a driver's own type may.
type loadBaud int

func (b *loadBaud) UnmarshalYAML(n *yaml.Node) error {
	if _, err := fmt.Sscanf(n.Value, "%d baud", (*int)(b)); err != nil {
		return fmt.Errorf("%q: want a number and baud", n.Value)
	}
	return nil
}

type loadCommon struct {
	Host string `yaml:"host"`
}

// loadSettings has what settings of drivers may consist of.
type loadSettings struct {
	loadCommon `yaml:",inline"`
	Password   string            `yaml:"password"`
	Token      uint8             `yaml:"token"`
	Baud       loadBaud          `yaml:"baud"`
	Nested     *loadCommon       `yaml:"nested"`
	Wait       *time.Duration    `yaml:"wait"`
	Rates      []float32         `yaml:"rates"`
	Names      map[uint16]string `yaml:"names"`
	Any        any               `yaml:"any"`
	Kind       model.Kind        `yaml:"kind"`
	Plain      int
	Hidden     int `yaml:"-"`
}

// loadTestKind keeps the settings and refuses with the error that refuse makes
// of them.
func loadTestKind(got *loadSettings, refuse func(loadSettings) error) channel.Kind {
	return channel.Kind{Name: "test", Open: func(decode func(any) error) (channel.Factory, error) {
		if err := decode(got); err != nil {
			return nil, err
		}
		if refuse != nil {
			if err := refuse(*got); err != nil {
				return nil, err
			}
		}
		return func(channel.Setup) (channel.Driver, error) { return nil, nil }, nil
	}}
}

func TestLoadConfigDecodesSettings(t *testing.T) {
	t.Parallel()
	const text = `
x-base: &base {host: a, password: base}
x-more: &more {host: b, token: 7, rates: [1, .5, 2e1]}
channels:
  - id: 1
    driver: test
    test:
      <<: [*base, *more]
      password: "p:${SECRET}$${x}${EMPTY:-e}${NONE:-}${NONE:-n}"
      baud: ${BAUD} baud
      nested: &nested
        host: yes
      wait: 1m30s
      names: {1: on, 0x10: off}
      any: {n: ["${BAUD}", x, *nested]}
      kind: s
      plain: -5
`
	var got loadSettings
	env := map[string]string{"SECRET": "a: b # c", "EMPTY": "", "BAUD": "9600"}
	_, err := loadTest(map[string]string{"site.yaml": text}, env, loadTestKind(&got, nil))
	require.NoError(t, err)
	wait := 90 * time.Second
	assert.Equal(t, loadSettings{
		loadCommon: loadCommon{Host: "a"}, Password: "p:a: b # c${x}en", Token: 7, Baud: 9600,
		Nested: &loadCommon{Host: "yes"}, Wait: &wait, Rates: []float32{1, .5, 20}, Names: map[uint16]string{1: "on", 16: "off"},
		Any:  map[string]any{"n": []any{"9600", "x", map[string]any{"host": "yes"}}},
		Kind: model.Signal, Plain: -5,
	}, got)
}

func TestLoadConfigHidesSecrets(t *testing.T) {
	t.Parallel()
	env := map[string]string{"SECRET": "hunter2", "SHORT": "x1", "WITH_QUOTE": `hun"ter2`}
	load := func(settings string, refuse func(loadSettings) error) string {
		var got loadSettings
		text := "channels:\n  - id: 1\n    driver: test\n    test:\n      " + settings + "\n"
		_, err := loadTest(map[string]string{"site.yaml": text}, env, loadTestKind(&got, refuse))
		require.Error(t, err)
		return err.Error()
	}
	shown := func(s loadSettings) error {
		return fmt.Errorf("%w: host %s: password %q: boxes", model.ErrInvalid, s.Host, s.Password)
	}
	at := "site.yaml:5: channels[0].test."
	assert.Equal(t, at+`host: a: password "${SECRET}": boxes`, load("{host: a, password: \"${SECRET}\"}", shown))
	assert.Equal(t, at+`host: a: password "${SHORT}": boxes`, load("{host: a, password: \"${SHORT}\"}", shown))
	assert.Equal(t, at+`host: a: password "${WITH_QUOTE}": boxes`, load("{host: a, password: \"${WITH_QUOTE}\"}", shown))
	assert.Equal(t, at+`host: a: password "***": boxes`, load("{host: a, password: swordfish}", shown))
	assert.Equal(t, at+`host: mqtt://***@b: password "": boxes`, load("{host: \"mqtt://me:swordfish@b\"}", shown))
	assert.Equal(t, at+`token: the value does not fit here: want a whole number of 8 bits without a sign`, load("{token: swordfish}", nil))
	assert.Equal(t, at+`plain: "${SECRET}": the value does not fit here: want a whole number of `+fmt.Sprint(32<<(^uint(0)>>63))+` bits`, load("{plain: \"${SECRET}\"}", nil))
	assert.Equal(t, at+`baud: "${SECRET}": want a number and baud`, load("{baud: \"${SECRET}\"}", nil))
}

func TestLoadConfigFaultsOfSettings(t *testing.T) {
	t.Parallel()
	var got loadSettings
	text := `
channels:
  - id: 1
    driver: test
    test:
      hidden: 1
      Plain: 1
      nested: {hots: a}
      rates: [a, "1", .nan]
      names: {-1: a, 70000: b}
      token: 256
      any: {a: 1, a: 2}
      kind: x
      host: [a]
`
	_, err := loadTest(map[string]string{"site.yaml": text}, nil, loadTestKind(&got, nil))
	require.Error(t, err)
	at := ": channels[0].test."
	assert.Equal(t, strings.Join([]string{
		"site.yaml:6" + at + "hidden: unknown key: want one of host, password, token, baud, nested, wait, rates, names, any, kind, plain",
		"site.yaml:7" + at + "Plain: unknown key; did you mean plain?",
		"site.yaml:8" + at + "nested.hots: unknown key; did you mean host?",
		"site.yaml:9" + at + `rates[0]: "a" is not a number`,
		"site.yaml:9" + at + `rates[2]: ".nan": want a finite number`,
		"site.yaml:10" + at + `names.-1: key "-1" is out of range`,
		"site.yaml:10" + at + `names.70000: key "70000" is out of range`,
		"site.yaml:11" + at + "token: the value does not fit here: want a whole number of 8 bits without a sign",
		"site.yaml:12" + at + "any.a: the key is there twice, first on line 12",
		"site.yaml:13" + at + `kind: "x": want measurement, signal, control or adjustment`,
		"site.yaml:14" + at + "host: want a single value, not a list",
	}, "\n"), err.Error())
}

func TestLoadConfigTakesWhatKindsAnswer(t *testing.T) {
	t.Parallel()
	open := func(f func(decode func(any) error) (channel.Factory, error)) string {
		_, err := loadTest(map[string]string{"site.yaml": "channels:\n  - {id: 1, driver: test, points: [{id: p}]}\n"}, nil, channel.Kind{Name: "test", Open: f})
		require.ErrorIs(t, err, model.ErrInvalid)
		return err.Error()
	}
	at := "site.yaml:2: channels[0]."
	assert.Equal(t, at+"test: the settings need a pointer to decode into", open(func(decode func(any) error) (channel.Factory, error) {
		return nil, decode(5)
	}))
	assert.Equal(t, at+"test: the driver's kind gave no driver", open(func(func(any) error) (channel.Factory, error) {
		return nil, nil
	}))
	failing := func(err error) func(func(any) error) (channel.Factory, error) {
		return func(func(any) error) (channel.Factory, error) {
			return func(channel.Setup) (channel.Driver, error) { return nil, err }, nil
		}
	}
	assert.Equal(t, at+"driver: no luck", open(failing(errors.New("channel 1: no luck"))))
	assert.Equal(t, at+"driver: point q: no luck", open(failing(errors.New("point q: no luck"))))
	assert.Equal(t, at+"points[0].address: no luck\n"+at+"driver: no more luck", open(failing(errors.Join(errors.New("point p: no luck"), errors.New("no more luck")))))
}

func TestLoadConfigMerges(t *testing.T) {
	t.Parallel()
	const text = `
x-rtu: &slow {scan: 10s, timeout: 3s}
x-self: &self {<<: [*slow], refresh: 2m}
channels:
  - &first {<<: *self, id: a, timeout: 4s}
  - {<<: *first, id: b}
  - *first
`
	_, err := loadTest(map[string]string{"site.yaml": text}, nil)
	require.Error(t, err)
	assert.Equal(t, "site.yaml:5: channels[2].id: channel a is there twice, first on line 5", err.Error())
	cfg, err := loadTest(map[string]string{"site.yaml": strings.Replace(text, "  - *first\n", "", 1)}, nil)
	require.NoError(t, err)
	want := channel.Config{ID: "a", Scan: 10 * time.Second, Timeout: 4 * time.Second, Refresh: 2 * time.Minute}
	second := want
	second.ID = "b"
	assert.Equal(t, []channel.Config{want, second}, cfg.Channels)
}

// TestLoadConfigIsBounded loads files that are small and mean something huge.
func TestLoadConfigIsBounded(t *testing.T) {
	t.Parallel()
	var lists, merges strings.Builder
	lists.WriteString("x-a0: &a0 [a]\n")
	merges.WriteString("x-b0: &b0 {listen: \"127.0.0.1:80\"}\n")
	for i := range 20 {
		if i < 4 {
			fmt.Fprintf(&lists, "x-a%d: &a%d [%s]\n", i+1, i+1, strings.TrimSuffix(strings.Repeat(fmt.Sprintf("*a%d,", i), 200), ","))
		}
		fmt.Fprintf(&merges, "x-b%d: &b%d {<<: [%s]}\n", i+1, i+1, strings.TrimSuffix(strings.Repeat(fmt.Sprintf("*b%d,", i), 20), ","))
	}
	cfg, err := loadTest(map[string]string{"site.yaml": merges.String() + "http: {<<: *b20}\n"}, nil)
	require.NoError(t, err)
	assert.Equal(t, "127.0.0.1:80", cfg.HTTP.Listen)

	var got loadSettings
	_, err = loadTest(map[string]string{"site.yaml": lists.String() + "channels: [{id: 1, driver: test, test: {any: *a4}}]\n"}, nil, loadTestKind(&got, nil))
	require.Error(t, err)
	assert.Contains(t, err.Error(), "aliases multiply them")

	_, err = loadTest(map[string]string{"site.yaml": "channels: [{id: 1, driver: test, test: {any: &a [*a]}}]\n"}, nil, loadTestKind(&got, nil))
	require.Error(t, err)
	assert.Equal(t, "site.yaml:1: channels[0].test.any: nested too deeply, or it contains itself", err.Error())
}
