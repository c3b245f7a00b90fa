precision highp float;

uniform vec4 ink; // display-referred, straight alpha
out vec4 color;

void main() {
  color = vec4(ink.rgb * ink.a, ink.a);
}
