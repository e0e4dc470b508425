# The same as execute_loop.mjs, with Ruby's client.
require 'base64'
require 'grpc'

$stdout.sync = true
stub = GRPC::ClientStub.new(ARGV[0], :this_channel_is_insecure)
bytes = ->(message) { message }
calls = Queue.new
$stdin.each_line { |line| calls << line.split }
calls.close
refused = false

threads = Array.new(8) do
  Thread.new do
    until refused || (number, request = calls.pop).nil?
      begin
        answer = stub.request_response(
          '/hotline.v1.Broker/Execute', Base64.decode64(request), bytes, bytes,
          deadline: Time.now + 30)
        puts "#{number} 0 #{Base64.strict_encode64(answer)}"
      rescue GRPC::BadStatus => e
        refused = true if e.code == GRPC::Core::StatusCodes::UNAVAILABLE
        puts "#{number} #{e.code} "
      end
    end
  end
end
threads.each(&:join)
