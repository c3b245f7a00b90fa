// Eye-dome lighting: what lies behind its neighbours is darker (Boucheny, 2009).
precision highp float;

uniform sampler2D picture;
uniform sampler2D depths;
uniform vec2 size_px;
uniform vec2 planes; // near, far
uniform float strength;
uniform float reach_px;

in vec2 at;
out vec4 color;

float log_depth(vec2 uv) {
  float ndc = 2.0 * texture(depths, uv).x - 1.0;
  return log2(2.0 * planes.x * planes.y / (planes.y + planes.x - ndc * (planes.y - planes.x)));
}

void main() {
  vec4 seen = texture(picture, at);
  float here = log_depth(at);
  float behind = 0.0;
  for (int k = 0; k < 8; k++) {
    float angle = 0.7853981633974483 * float(k);
    vec2 offset = reach_px * vec2(cos(angle), sin(angle)) / size_px;
    if (texture(picture, at + offset).a > 0.0) behind += max(0.0, here - log_depth(at + offset));
  }
  color = vec4(seen.rgb * exp(-strength * behind / 8.0), seen.a);
}
