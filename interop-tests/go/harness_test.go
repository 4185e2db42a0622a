package interop

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/Azure/go-amqp"
)

const (
	startDeadline = 30 * time.Second
	// Shorter than the lock of most queues, so that no scenario passes because a lock ran out.
	scenarioDeadline = 45 * time.Second
	// What is long for a message that is there.
	silence       = 300 * time.Millisecond
	tokenLifetime = 600 * time.Second
	client        = "go-amqp"
)

func home() string {
	named := os.Getenv("LOCKSTEP_INTEROP_HOME")
	if named == "" {
		panic("LOCKSTEP_INTEROP_HOME is not set: start the suite through interop-tests/run.sh")
	}
	return named
}

func certificate(name string) string { return filepath.Join(home(), "certs", name) }

func key(policy string) string {
	text, err := os.ReadFile(filepath.Join(home(), "policies.json"))
	if err != nil {
		panic(err)
	}
	var keys map[string]string
	if err := json.Unmarshal(text, &keys); err != nil {
		panic(err)
	}
	return keys[policy]
}

// Broker is one `lockstep serve` process.
type Broker struct {
	port      int
	directory string
	command   *exec.Cmd
	ended     chan struct{}
}

func startBroker() (*Broker, error) {
	probe, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	b := &Broker{port: probe.Addr().(*net.TCPAddr).Port, ended: make(chan struct{})}
	probe.Close()
	if b.directory, err = os.MkdirTemp("", "lockstep-broker-"); err != nil {
		return nil, err
	}
	b.command = exec.Command(os.Getenv("LOCKSTEP_BIN"), "serve", "--listen", fmt.Sprintf("127.0.0.1:%d", b.port),
		"--data-dir", filepath.Join(b.directory, "data"), "--config", filepath.Join(home(), "lockstep.toml"),
		"--cert", certificate("server.pem"), "--key", certificate("server-key.pem"))
	b.command.Dir = b.directory
	// Settings of whoever runs the tests must not reach the broker.
	for _, entry := range os.Environ() {
		if !strings.HasPrefix(entry, "LOCKSTEP_") {
			b.command.Env = append(b.command.Env, entry)
		}
	}
	log, err := os.Create(filepath.Join(b.directory, "broker.log"))
	if err != nil {
		return nil, err
	}
	defer log.Close()
	b.command.Stdout, b.command.Stderr = log, log
	if err := b.command.Start(); err != nil {
		return nil, err
	}
	go func() {
		_ = b.command.Wait()
		close(b.ended)
	}()
	for end := time.Now().Add(startDeadline); !b.healthy(); time.Sleep(20 * time.Millisecond) {
		if !b.alive() || time.Now().After(end) {
			return b, fmt.Errorf("the broker did not start\n%s", b.log())
		}
	}
	return b, nil
}

func (b *Broker) healthy() bool {
	answer, err := http.Get(fmt.Sprintf("http://127.0.0.1:%d/health", b.port))
	if err != nil {
		return false
	}
	answer.Body.Close()
	return answer.StatusCode == http.StatusOK
}

func (b *Broker) alive() bool {
	select {
	case <-b.ended:
		return false
	default:
		return true
	}
}

func (b *Broker) log() string {
	text, _ := os.ReadFile(filepath.Join(b.directory, "broker.log"))
	return string(text)
}

func (b *Broker) dispose() {
	_ = b.command.Process.Kill()
	<-b.ended
	os.RemoveAll(b.directory)
}

// Scenario is what one scenario works with; its connections are closed when it ends.
type Scenario struct {
	*testing.T
	ctx    context.Context
	queue  string
	broker *Broker
}

func TestScenarios(t *testing.T) {
	broker, err := startBroker()
	if broker != nil {
		t.Cleanup(broker.dispose)
	}
	if err != nil {
		t.Fatal(err)
	}
	for _, group := range []map[string]func(*Scenario){queues, messageSessions} {
		for name, body := range group {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				// Cleanups run last first: the verdict comes after the connections are closed.
				t.Cleanup(func() {
					if !broker.alive() {
						t.Error("the broker process ended during the test")
					}
					if t.Failed() {
						t.Log(broker.log())
					}
					writeVerdict(t, name)
				})
				ctx, cancel := context.WithTimeout(t.Context(), scenarioDeadline)
				defer cancel()
				body(&Scenario{t, ctx, name, broker})
			})
		}
	}
}

func writeVerdict(t *testing.T, name string) {
	directory := os.Getenv("LOCKSTEP_INTEROP_RESULTS")
	if directory == "" {
		return
	}
	verdict := "pass"
	if t.Failed() {
		verdict = "fail"
	}
	out, err := os.OpenFile(filepath.Join(directory, client+".jsonl"), os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
	if err != nil {
		t.Error(err)
		return
	}
	defer out.Close()
	fmt.Fprintf(out, "{\"client\": %q, \"scenario\": %q, \"verdict\": %q}\n", client, name, verdict)
}

func must[V any](value V, err error) func(*Scenario) V {
	return func(s *Scenario) V {
		s.Helper()
		if err != nil {
			s.Fatal(err)
		}
		return value
	}
}

func (s *Scenario) succeed(err error) {
	s.Helper()
	if err != nil {
		s.Fatal(err)
	}
}

func (s *Scenario) equal(found, expected any) {
	s.Helper()
	if !reflect.DeepEqual(found, expected) {
		s.Fatalf("found %#v, expected %#v", found, expected)
	}
}

// refused wants an error with this condition.
func (s *Scenario) refused(err error, condition string) {
	s.Helper()
	var byPeer *amqp.Error
	var byAnswer *RequestRefused
	switch {
	case errors.As(err, &byPeer):
		s.equal(string(byPeer.Condition), condition)
	case errors.As(err, &byAnswer):
		s.equal(byAnswer.Condition, condition)
	default:
		s.Fatalf("found %v, expected %s", err, condition)
	}
}

// waitUntil polls until the condition holds.
func (s *Scenario) waitUntil(condition func() bool, what string) {
	s.Helper()
	for !condition() {
		if s.ctx.Err() != nil {
			s.Fatalf("%s did not happen", what)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// letTimePass is for where the passing of time is the subject (a lock that runs out, nothing arriving).
func letTimePass(duration time.Duration) { time.Sleep(duration) }

func plain() *amqp.ConnOptions {
	return &amqp.ConnOptions{SASLType: amqp.SASLTypePlain("root", key("root"))}
}

func (s *Scenario) dial(scheme string, options *amqp.ConnOptions) (*amqp.Conn, error) {
	connection, err := amqp.Dial(s.ctx, fmt.Sprintf("%s://localhost:%d", scheme, s.broker.port), options)
	if err == nil {
		// go-amqp reports it as an error when the broker, having answered, is the first to go.
		s.Cleanup(func() { _ = connection.Close() })
	}
	return connection, err
}

// connect makes a connection with one AMQP session.
func (s *Scenario) connect() *amqp.Session {
	s.Helper()
	session, _ := s.connectWith("amqp", plain())
	return session
}

func (s *Scenario) connectWith(scheme string, options *amqp.ConnOptions) (*amqp.Session, *amqp.Conn) {
	s.Helper()
	connection := must(s.dial(scheme, options))(s)
	return must(connection.NewSession(s.ctx, nil))(s), connection
}

func trusting(s *Scenario) *tls.Config {
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(must(os.ReadFile(certificate("ca.pem")))(s)) {
		s.Fatal("no authority")
	}
	return &tls.Config{RootCAs: pool}
}

func (s *Scenario) sasToken(resource, policy string) string {
	audience := url.QueryEscape(resource)
	expiry := time.Now().Add(tokenLifetime).Unix()
	mac := hmac.New(sha256.New, []byte(key(policy)))
	fmt.Fprintf(mac, "%s\n%d", audience, expiry)
	signature := url.QueryEscape(base64.StdEncoding.EncodeToString(mac.Sum(nil)))
	return fmt.Sprintf("SharedAccessSignature sr=%s&sig=%s&se=%d&skn=%s", audience, signature, expiry, policy)
}

func (s *Scenario) put(session *amqp.Session, messages ...*amqp.Message) {
	s.Helper()
	sender := must(session.NewSender(s.ctx, s.queue, nil))(s)
	for _, message := range messages {
		s.succeed(sender.Send(s.ctx, message, nil))
	}
	s.succeed(sender.Close(s.ctx))
}

func texts(bodies ...string) []*amqp.Message {
	var messages []*amqp.Message
	for _, body := range bodies {
		messages = append(messages, amqp.NewMessage([]byte(body)))
	}
	return messages
}

func bodies(messages []*amqp.Message) []string {
	all := []string{}
	for _, message := range messages {
		all = append(all, string(message.GetData()))
	}
	return all
}

// receiver gives out no credit by itself.
func (s *Scenario) receiver(session *amqp.Session, options amqp.ReceiverOptions) *amqp.Receiver {
	s.Helper()
	options.Credit = -1
	return must(session.NewReceiver(s.ctx, s.queue, &options))(s)
}

// receive asks for messages and waits for them.
func (s *Scenario) receive(receiver *amqp.Receiver, count int) []*amqp.Message {
	s.Helper()
	s.succeed(receiver.IssueCredit(uint32(count)))
	return s.arrived(receiver, count)
}

func (s *Scenario) arrived(receiver *amqp.Receiver, count int) []*amqp.Message {
	s.Helper()
	var messages []*amqp.Message
	for range count {
		messages = append(messages, must(receiver.Receive(s.ctx, nil))(s))
	}
	return messages
}

// drain takes the credit back (go-amqp says that it gives none any more, and asks for the broker's word for it),
// and returns what arrived before the answer.
func (s *Scenario) drain(receiver *amqp.Receiver) []*amqp.Message {
	s.Helper()
	s.succeed(receiver.DrainCredit(s.ctx, nil))
	messages := []*amqp.Message{}
	for message := receiver.Prefetched(); message != nil; message = receiver.Prefetched() {
		messages = append(messages, message)
	}
	return messages
}

// empty wants that the queue has nothing for this link.
func (s *Scenario) empty(receiver *amqp.Receiver) {
	s.Helper()
	s.succeed(receiver.IssueCredit(1))
	s.nothingArrives(receiver)
	s.equal(bodies(s.drain(receiver)), []string{})
}

func (s *Scenario) nothingArrives(receiver *amqp.Receiver) {
	s.Helper()
	letTimePass(silence)
	s.equal(receiver.Prefetched(), (*amqp.Message)(nil))
}

func (s *Scenario) management(session *amqp.Session) *Management {
	s.Helper()
	return must(NewManagement(s.ctx, session, s.queue))(s)
}

// peek is what com.microsoft:peek-message shows, in order.
func (s *Scenario) peek(management *Management, start int64, count int32) []*amqp.Message {
	s.Helper()
	body := map[string]any{"from-sequence-number": start, "message-count": count}
	answer, err := management.Ask(s.ctx, "com.microsoft:peek-message", body)
	var refused *RequestRefused
	if errors.As(err, &refused) && refused.Status == http.StatusNoContent {
		return nil
	}
	s.succeed(err)
	var messages []*amqp.Message
	for _, entry := range answer["messages"].([]any) {
		message := new(amqp.Message)
		s.succeed(message.UnmarshalBinary(entry.(map[string]any)["message"].([]byte)))
		messages = append(messages, message)
	}
	return messages
}

func lockTokens(messages ...*amqp.Message) []amqp.UUID {
	var tokens []amqp.UUID
	for _, message := range messages {
		tokens = append(tokens, message.DeliveryAnnotations["x-opt-lock-token"].(amqp.UUID))
	}
	return tokens
}

func deliveryCount(message *amqp.Message) int { return int(message.Header.DeliveryCount) }

func pointer[V any](value V) *V { return &value }
