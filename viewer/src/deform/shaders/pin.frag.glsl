precision highp float;

flat in vec4 value;
flat in int block;
layout(location = 0) out vec4 out0;
layout(location = 1) out vec4 out1;
layout(location = 2) out vec4 out2;
layout(location = 3) out vec4 out3;

void main() {
  out0 = block == 0 ? value : vec4(0.0);
  out1 = block == 1 ? value : vec4(0.0);
  out2 = block == 2 ? value : vec4(0.0);
  out3 = block == 3 ? value : vec4(0.0);
}
