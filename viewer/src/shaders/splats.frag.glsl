precision highp float;

in vec2 deviation;
flat in vec4 splat;
out vec4 color;

const float MAX_ALPHA = 0.99;
const float MIN_ALPHA = 1.0 / 255.0;

void main() {
  float alpha = min(splat.a * exp(-0.5 * dot(deviation, deviation)), MAX_ALPHA);
  if (alpha < MIN_ALPHA) discard;
  color = vec4(splat.rgb * alpha, alpha);
}
